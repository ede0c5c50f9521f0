"""The stores under the model: the real server behind a breaking proxy, and the one in memory."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any, Protocol

import msgspec
import redis.asyncio

from streamproc.errors import StateStoreError
from streamproc.position import Position
from streamproc.redis_client import connect_redis
from streamproc.state.keys import Keys
from streamproc.state.store import RedisStateStore, StateStore
from streamproc.testing import MemoryStateStore
from tests.faults.proxy import CutAfter, CutBefore, FaultProxy, Late
from tests.model.stepped_store import PendingCall
from tests.stored import StoredGroup

__all__ = ["Backend", "Held", "MemoryBackend", "RedisBackend"]


class Held(msgspec.Struct, frozen=True):
    """All that a store holds, in the oracle's terms.

    Attributes:
        booked: numbers of each account, in its order.
        emitted: (emission id, entry id), in outbox order.
        marks: how many ids are marked as seen.
        dead: entry ids of dead letters.
        positions: of each shard, where it has any.
    """

    booked: dict[str, list[int]]
    emitted: list[tuple[str, str]]
    marks: int
    dead: list[str]
    positions: dict[str, Position]


class Backend(Protocol):
    """A store, what can go wrong with it, and a look behind its back."""

    keys: Keys

    async def open(self) -> None:
        """Begin with an empty store."""
        ...

    def store(self) -> StateStore:
        """Return a store for a new owner."""
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

    def __init__(self) -> None:
        self._store = MemoryStateStore("g")
        self.keys = self._store.keys
        self._dump: dict[str, Any] = {}

    async def open(self) -> None:
        self._dump = self._copy()

    def store(self) -> StateStore:
        return self._store

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
        self._dump = self._copy()

    async def go_back(self) -> None:
        vars(self._store).update(copy.deepcopy(self._dump))

    def _copy(self) -> dict[str, Any]:
        parts = vars(self._store).items()
        return {name: copy.deepcopy(part) for name, part in parts if name not in _FIXED}

    async def held(self) -> Held:
        store, dump = self._store, self._store.dump()
        prefix = self.keys.state_prefix("ledger")
        emitted = [json.loads(entry["data"]) for entry in store.outbox]
        return Held(
            {
                key.removeprefix(prefix): json.loads(raw)["numbers"]
                for key, (_, raw, _) in dump["states"].items()
            },
            [(event["id"], event["data"]["entry_id"]) for event in emitted],
            sum(len(digests) for digests, _ in dump["seen"].values()),
            [json.loads(letter["data"])["data"]["entry_id"] for letter in store.dead_letters],
            {shard: position for shard, (_, position) in dump["positions"].items() if position},
        )

    async def close(self) -> None:
        """There is nothing to let go of."""


_FIXED = ("keys", "_clock", "_bucket_ms")


class RedisBackend:
    """The real server; every owner has a client of its own through one proxy."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.keys = Keys("g")
        self._proxy = FaultProxy(url)
        self._stores: list[RedisStateStore] = []
        self._late: list[Late] = []
        self._dump: dict[bytes, bytes] = {}

    async def open(self) -> None:
        self._client = redis.asyncio.Redis.from_url(self._url)
        self._stored = StoredGroup(self._client)
        await self._client.flushall()
        await self._proxy.__aenter__()

    def store(self) -> StateStore:
        self._stores.append(RedisStateStore(connect_redis(self._proxy.url, 5.0), "g", 172_800.0))
        return self._stores[-1]

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
        positions = await self._stored.positions()
        return Held(
            await self._stored.accounts(),
            await self._stored.emitted(),
            (await self._stored.counts()).marks,
            await self._stored.dead_letters(),
            {shard: max(found) for shard, found in positions.items() if found},
        )

    async def close(self) -> None:
        for store in self._stores:
            await store.aclose()
        await self._proxy.__aexit__(None, None, None)
        await self._client.aclose()
