"""A real Redis Cluster for tests: several embedded servers that know each other."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Self

import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import RedisError

from streamproc.testing.embedded_redis import EmbeddedRedis, EmbeddedRedisError

__all__ = ["EmbeddedCluster"]

_SLOTS: Final = 16_384
# The nodes talk to each other at a port this much higher.
_BUS: Final = 10_000
_READY_TIMEOUT_S: Final = 30.0


class EmbeddedCluster:
    """Primaries that share the slots evenly, each with as many replicas.

    Args:
        primaries: servers with slots; a cluster needs three to vote for a replica.
        replicas: replicas of each.
        node_timeout_ms: after how long a node that does not answer counts as failed.

    Attributes:
        nodes: all servers, the primaries first.
    """

    def __init__(
        self, primaries: int = 3, replicas: int = 0, *, node_timeout_ms: int = 1_000
    ) -> None:
        self.nodes: list[EmbeddedRedis] = []
        self._primaries = primaries
        self._replicas = replicas
        self._node_timeout_ms = node_timeout_ms

    @property
    def url(self) -> str:
        """The URL of the first node; any would do."""
        return self.nodes[0].url

    async def start(self) -> None:
        """Start all servers and wait until they are one cluster.

        Raises:
            EmbeddedRedisError: one did not come up, or they did not find together.
        """
        try:
            count = self._primaries * (1 + self._replicas)
            async with asyncio.TaskGroup() as starting:
                for _ in range(count):
                    starting.create_task(self._start_node())
            await self._join()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all servers."""
        nodes, self.nodes = self.nodes, []
        for node in nodes:
            await node.stop()

    async def __aenter__(self) -> Self:
        """Start the cluster."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the cluster."""
        await self.stop()

    async def flush(self) -> None:
        """Delete every key."""
        for node in self.nodes[: self._primaries]:
            async with redis.asyncio.Redis.from_url(node.url) as client:
                await client.flushall()

    async def owner(self, key: str) -> EmbeddedRedis:
        """Return the node that serves a key now, as any node that answers says.

        Raises:
            EmbeddedRedisError: none does.
        """
        slot = key_slot(key.encode())
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError):
                for first, last, (_, port, *_), *_ in await _ask(node, "CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == port)
        raise EmbeddedRedisError(f"no node serves slot {slot}")

    async def move_slot(self, slot: int, source: EmbeddedRedis, target: EmbeddedRedis) -> None:
        """Give a slot with its keys to another primary, as a resharding does."""
        await self.begin_move(slot, source, target)
        while keys := await _ask(source, "CLUSTER GETKEYSINSLOT", slot, 100):
            await _ask(source, "MIGRATE", target.host, target.port, "", 0, 5_000, "KEYS", *keys)
        await self.end_move(slot, target)

    async def begin_move(self, slot: int, source: EmbeddedRedis, target: EmbeddedRedis) -> None:
        """Have the target take what the source has not: it answers ASK for what is not there."""
        await _ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", await _id(source))
        await _ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", await _id(target))

    async def end_move(self, slot: int, target: EmbeddedRedis) -> None:
        """Tell all primaries who has the slot now."""
        owner = await _id(target)
        # The target first: the others would forget the slot otherwise, were it to fail now.
        for node in sorted(self.nodes[: self._primaries], key=lambda each: each is not target):
            await _ask(node, "CLUSTER SETSLOT", slot, "NODE", owner)

    async def _start_node(self) -> None:
        for attempt in range(5):
            node = EmbeddedRedis(
                port=_free_port(),
                config={
                    "cluster-enabled": "yes",
                    "cluster-node-timeout": str(self._node_timeout_ms),
                    "cluster-replica-validity-factor": "0",
                    "repl-diskless-sync-delay": "0",
                },
            )
            try:
                await node.start()
            except EmbeddedRedisError:
                if attempt == 4:
                    raise
                await node.stop()
            else:
                self.nodes.append(node)
                return
        raise AssertionError("unreachable")

    async def _join(self) -> None:
        first, *others = self.nodes
        for node in others:
            await _ask(node, "CLUSTER MEET", first.host, first.port)
        bounds = [round(n * _SLOTS / self._primaries) for n in range(self._primaries + 1)]
        for node, (low, high) in zip(self.nodes, pairwise(bounds), strict=False):
            await _ask(node, "CLUSTER ADDSLOTS", *range(low, high))
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await self._until(self._all_know_all)
            for number, node in enumerate(self.nodes[self._primaries :]):
                primary = self.nodes[number % self._primaries]
                await _ask(node, "CLUSTER REPLICATE", await _id(primary))
            await self._until(self._all_ok)

    async def _until(self, condition: Any) -> None:
        # Nothing tells when the nodes' gossip has reached everybody.
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _all_know_all(self) -> bool:
        known = [(await _info(node))["cluster_known_nodes"] for node in self.nodes]
        return known == [str(len(self.nodes))] * len(self.nodes)

    async def _all_ok(self) -> bool:
        for node in self.nodes:
            if (await _info(node))["cluster_state"] != "ok":
                return False
            slots = await _ask(node, "CLUSTER SLOTS")
            if sum(len(shard) - 2 for shard in slots) != len(self.nodes):
                return False
        return True


async def _ask(node: EmbeddedRedis, *command: Any) -> Any:
    async with redis.asyncio.Redis.from_url(node.url) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def _info(node: EmbeddedRedis) -> dict[str, str]:
    answer = await _ask(node, "CLUSTER INFO")
    return answer if isinstance(answer, dict) else dict(_lines(answer))


def _lines(text: bytes) -> Sequence[tuple[str, str]]:
    pairs = [line.partition(":") for line in text.decode().splitlines()]
    return [(name, value) for name, _, value in pairs]


async def _id(node: EmbeddedRedis) -> str:
    answer = await _ask(node, "CLUSTER MYID")
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _free_port() -> int:
    """Return a free port whose bus port is free, too."""
    while True:
        port = random.randrange(20_000, 65_535 - _BUS)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + _BUS))
            except OSError:
                continue
            return port
