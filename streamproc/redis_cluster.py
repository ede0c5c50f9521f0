"""A client of a Redis Cluster that behaves as the one of a single server does: bounded, and frank.

redis-py's own cluster client repeats commands by itself, sends ASKING over one pooled connection
and the command that it is for over another, and does not look for a new primary when a node is
given up on our time instead of its. Commands, connections and errors are redis-py's here, too.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final, cast

import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from streamproc.redis_connections import TimedRedis

__all__ = ["ClusterRedis", "first_key"]

_SLOTS: Final = 16_384
_MOST_REDIRECTS: Final = 8
_TRY_AGAIN_S: Final = 0.05
# Of a call's time, what one node may take to tell the slots.
_SHARE_OF_A_NODE: Final = 0.2

_KEYLESS: Final = frozenset({"CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "TIME"})
_OF_A_NODE: Final = frozenset({"DBSIZE", "FLUSHALL", "FLUSHDB", "KEYS", "SCAN", "SCRIPT", "WAIT"})
_WITH_KEY_COUNT: Final = frozenset({"EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL"})

_Address = tuple[str, int]


class ClusterRedis(TimedRedis):
    """Sends each command to the node that has the slot of its first key.

    Slots are learnt from any node at the first command, and again after a node failed or said that
    a slot lies elsewhere. A command that was redirected was not executed, so it is sent again at
    once; any other failure is the caller's to judge, as with a single server.

    A single server behind the URL is used as such, unless `must_be_cluster`.
    """

    must_be_cluster: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_cluster: bool | None = None
        self._is_stale = True
        self._nodes: dict[_Address, TimedRedis] = {}
        self._slots: list[_Address | None] = []
        self._suspect: _Address | None = None
        self._learning = asyncio.Lock()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that has its first key; to any node if it has none.

        Raises:
            TimeoutError: there was no answer in time; the command may have been executed.
            ClusterDownError: no node serves the slot now.
        """
        if self._is_cluster is False:
            return await super().execute_command(*args, **options)
        try:
            async with asyncio.timeout(self.call_timeout):
                if self._is_stale:
                    await self._learn()
                if self._is_cluster:
                    return await self._execute(args, options)
        except (RedisConnectionError, OSError, ClusterDownError, ReadOnlyError):
            self._is_stale = True
            raise
        return await super().execute_command(*args, **options)

    async def client_of(self, key: str | bytes) -> TimedRedis:
        """Return the client of the node that has a key, for what a cluster as one cannot do."""
        await self._ensure_learnt()
        return self._node(self._address(key)) if self._is_cluster else self

    async def primaries(self) -> list[TimedRedis]:
        """Return a client for each node that has slots."""
        await self._ensure_learnt()
        if not self._is_cluster:
            return [self]
        return [self._node(each) for each in sorted({a for a in self._slots if a is not None})]

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse, in a cluster: a pipeline is for one node, see `client_of`."""
        if self._is_cluster is not False:
            raise NotImplementedError("a Redis Cluster has no pipelines; see client_of")
        return super().pipeline(*args, **kwargs)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all nodes."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.aclose()
        await super().aclose(close_connection_pool)

    async def _execute(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        key = first_key(args)
        address = random.choice(list(self._nodes)) if key is None else self._address(key)
        asking = False
        for _ in range(_MOST_REDIRECTS):
            node = self._node(address)
            # Until it answers, whatever ends this call makes the node the last to be asked.
            self._suspect = address
            try:
                if asking:
                    return await _ask(node, args, options)
                return await node.execute_command(*args, **options)
            except MovedError as moved:
                address, asking = (moved.host or address[0], moved.port), False
                self._slots[moved.slot_id] = address
                self._is_stale = True
            except AskError as ask:
                address, asking = (ask.host or address[0], ask.port), True
            except TryAgainError:
                await asyncio.sleep(_TRY_AGAIN_S)
        raise ClusterDownError(f"redirected {_MOST_REDIRECTS} times, to {address} at last")

    async def _ensure_learnt(self) -> None:
        if self._is_cluster is None or (self._is_cluster and self._is_stale):
            async with asyncio.timeout(self.call_timeout):
                await self._learn()

    async def _learn(self) -> None:
        """Ask one node after another which of them has which slots.

        Raises:
            RedisError: none of them tells.
        """
        async with self._learning:
            if not self._is_stale:
                return  # another call has learnt it meanwhile
            known = random.sample(list(self._nodes), len(self._nodes))
            known.sort(key=lambda address: address == self._suspect)
            failure: Exception = RedisError("no node is known")
            for address in (*known, None):
                # The URL's node comes last: what is left of the call's time is for it.
                share = None if address is None else self.call_timeout * _SHARE_OF_A_NODE
                try:
                    async with asyncio.timeout(share):
                        self._note(await self._slots_by(address))
                    return
                except ResponseError as error:
                    if not self._nodes and not self.must_be_cluster:
                        # "This instance has cluster support disabled", or no such command.
                        self._is_cluster = False
                        return
                    failure = error
                except (RedisError, OSError) as error:
                    failure = error
            raise failure

    async def _slots_by(self, address: _Address | None) -> list[tuple[int, int, _Address]]:
        """Return (first slot, last slot, primary) as a node says; None asks the URL's."""
        if address is None:
            host = str(self.connection_pool.connection_kwargs.get("host", "localhost"))
            answer = await super().execute_command("CLUSTER SLOTS")
        else:
            host = address[0]
            answer = await self._node(address).execute_command("CLUSTER SLOTS")
        # A node that does not know its own name leaves it empty.
        return [
            (first, last, (name.decode() if name else host, port))
            for first, last, (name, port, *_), *_ in answer
        ]

    def _note(self, ranges: list[tuple[int, int, _Address]]) -> None:
        slots: list[_Address | None] = [None] * _SLOTS
        for first, last, address in ranges:
            slots[first : last + 1] = [address] * (last - first + 1)
            self._node(address)
        if not ranges:
            raise ClusterDownError("the node knows of no slots")
        self._slots, self._is_cluster, self._is_stale = slots, True, False

    def _address(self, key: str | bytes) -> _Address:
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        address = self._slots[slot]
        if address is None:
            raise ClusterDownError(f"no node has slot {slot}")
        return address

    def _node(self, address: _Address) -> TimedRedis:
        node = self._nodes.get(address)
        if node is None:
            pool, (host, port) = self.connection_pool, address
            node_pool = redis.asyncio.ConnectionPool(
                **pool.connection_kwargs
                | {"connection_class": pool.connection_class, "host": host, "port": port}
            )
            node = cast(TimedRedis, TimedRedis.from_pool(node_pool))
            node.call_timeout = self.call_timeout
            self._nodes[address] = node
        return node


def first_key(args: tuple[Any, ...]) -> str | bytes | None:
    """Return the key that a command is sent by; None for one that any node may answer.

    Raises:
        RedisError: the command is about one node, and says nothing in a cluster.
    """
    name = args[0].split()[0].upper()
    if name in _KEYLESS:
        return None
    if name in _OF_A_NODE:
        raise RedisError(f"{name} is about one node of a cluster; see client_of and primaries")
    if name in _WITH_KEY_COUNT:
        if not int(args[2]):
            return None
        return cast("str | bytes", args[3])
    if "STREAMS" in args:
        return cast("str | bytes", args[args.index("STREAMS") + 1])
    return cast("str | bytes", args[1])


async def _ask(node: TimedRedis, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Send a command to a node that is taking over its slot: ASKING first, on one connection."""
    pipeline = node.pipeline(transaction=False)
    pipeline.execute_command("ASKING")
    pipeline.execute_command(*args, **options)
    _, answer = await pipeline.execute(raise_on_error=False)
    if isinstance(answer, Exception):
        raise answer
    return answer
