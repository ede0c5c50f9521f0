"""The stores under the model: the real server behind a breaking proxy, and the one in memory."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import redis.asyncio

from streamproc.errors import StateStoreError
from streamproc.position import Position
from streamproc.redis_client import TimedRedis, connect_redis
from streamproc.state.keys import Keys
from streamproc.state.redis_store import RedisStateStore
from streamproc.state.store import StateStore
from streamproc.testing import MemoryStateStore
from tests.faults.proxy import CutAfter, CutBefore, FaultProxy, Late
from tests.model.stepped_store import PendingCall
from tests.stored import StoredGroup

__all__ = ["Backend", "Held", "MemoryBackend", "RedisBackend"]


class Held(msgspec.Struct):
    """All that a store holds, in the oracle's terms.

    Attributes:
        booked: numbers of each account, in its order.
        emitted: (emission id, entry id), in outbox order.
        marks: how many ids are marked as seen.
        dead: entry ids of dead letters.
        positions: of each shard in each partition, where it has any.
    """

    booked: dict[str, list[int]]
    emitted: list[tuple[str, str]]
    marks: int
    dead: list[str]
    positions: dict[str, dict[int, Position]]


class Backend(Protocol):
    """A store, what can go wrong with it, and a look behind its back."""

    keys: list[Keys]

    async def open(self) -> None:
        """Begin with an empty store."""
        ...

    def stores(self) -> Sequence[StateStore]:
        """Return the partitions' stores for a new owner."""
        ...

    async def carry_out(self, call: PendingCall, ending: str) -> Any:
        """Make a call; `ending` is one of `endings`.

        Raises:
            StateStoreError: the call, or its answer, is lost.
        """
        ...

    async def deliver_late(self) -> None:
        """Let every late request reach the server."""
        ...

    async def forget_scripts(self) -> None:
        """Drop the server's script cache."""
        ...

    async def remember(self) -> None:
        """Take a dump."""
        ...

    async def go_back(self) -> None:
        """Be what the last dump says; empty without one."""
        ...

    async def held(self) -> Held:
        """Return all that is stored."""
        ...

    async def close(self) -> None:
        """Let go of servers and connections."""
        ...


class MemoryBackend:
    """`MemoryStateStore`, with failures made up here."""

    def __init__(self, partitions: int) -> None:
        self._stores = [MemoryStateStore("g", partition=p) for p in range(partitions)]
        self.keys = [store.keys for store in self._stores]
        self._dumps: list[dict[str, Any]] = []

    async def open(self) -> None:
        await self.remember()

    def stores(self) -> Sequence[StateStore]:
        return self._stores

    async def carry_out(self, call: PendingCall, ending: str) -> Any:
        if ending == "lost before":
            raise StateStoreError("made up: the request was lost")
        answer = await call.make()
        if ending == "answered":
            return answer
        raise StateStoreError("made up: the answer was lost")

    async def deliver_late(self) -> None:
        """Nothing is ever late here."""

    async def forget_scripts(self) -> None:
        """There are none."""

    async def remember(self) -> None:
        self._dumps = [
            {name: copy.deepcopy(part) for name, part in vars(s).items() if name not in _FIXED}
            for s in self._stores
        ]

    async def go_back(self) -> None:
        for store, dump in zip(self._stores, self._dumps, strict=True):
            vars(store).update(copy.deepcopy(dump))

    async def held(self) -> Held:
        held = Held({}, [], 0, [], {})
        for partition, store in enumerate(self._stores):
            dump, prefix = store.dump(), store.keys.state_prefix("ledger")
            for key in dump["states"]:
                raw = store.stored(key) or b""
                held.booked[key.removeprefix(prefix)] = json.loads(raw)["numbers"]
            emitted = [json.loads(entry["data"]) for entry in store.outbox]
            held.emitted.extend((event["id"], event["data"]["entry_id"]) for event in emitted)
            held.marks += sum(len(digests) for digests, _ in dump["seen"].values())
            letters = [json.loads(letter["data"]) for letter in store.dead_letters]
            held.dead.extend(letter["data"]["entry_id"] for letter in letters)
            for shard, (_, position) in dump["positions"].items():
                if position is not None:
                    held.positions.setdefault(shard, {})[partition] = position
        return held

    async def close(self) -> None:
        """There is nothing to let go of."""


_FIXED = ("keys", "_clock", "_bucket_ms")


class RedisBackend:
    """The real server; every owner has a client of its own through one proxy."""

    def __init__(self, url: str, partitions: int) -> None:
        self._url = url
        self.keys = [Keys("g", partition) for partition in range(partitions)]
        self._proxy = FaultProxy(url)
        self._clients: list[TimedRedis] = []
        self._late: list[Late] = []
        self._dump: dict[bytes, bytes] = {}

    async def open(self) -> None:
        self._client = redis.asyncio.Redis.from_url(self._url)
        self._stored = StoredGroup(self._client)
        await self._client.flushall()
        await self._proxy.__aenter__()

    async def clear(self) -> None:
        """Hold nothing any more."""
        await self._client.flushall()
        for client in self._clients:
            await client.aclose()
        self._clients.clear()

    def stores(self) -> Sequence[StateStore]:
        client = connect_redis(self._proxy.url, 5.0)
        self._clients.append(client)
        return [RedisStateStore(client, "g", 172_800.0, keys.partition) for keys in self.keys]

    async def carry_out(self, call: PendingCall, ending: str) -> Any:
        if ending == "lost before":
            self._proxy.on(call.name, CutBefore())
        elif ending == "lost after":
            self._proxy.on(call.name, CutAfter())
        elif ending == "late":
            self._late.append(Late())
            self._proxy.on(call.name, self._late[-1])
        return await call.make()

    async def deliver_late(self) -> None:
        while self._late:
            late = self._late.pop(0)
            late.released.set()
            async with asyncio.timeout(5):
                await late.executed.wait()

    async def forget_scripts(self) -> None:
        await self._client.script_flush()

    async def remember(self) -> None:
        self._dump = {key: await self._client.dump(key) for key in await self._client.keys("*")}

    async def go_back(self) -> None:
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.flushall()
            for key, value in self._dump.items():
                pipeline.restore(key, 0, value)
            await pipeline.execute()

    async def held(self) -> Held:
        return Held(
            await self._stored.accounts(),
            await self._stored.emitted(),
            (await self._stored.counts()).marks,
            await self._stored.dead_letters(),
            await self._stored.positions(),
        )

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self._proxy.__aexit__(None, None, None)
        await self._client.aclose()
