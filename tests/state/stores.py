"""Both state stores behind one face, so that one suite states the contract for both."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec
import redis.asyncio

from streamproc.position import Position
from streamproc.state.cell import Codec, StateCell
from streamproc.state.counters import CounterCell
from streamproc.state.counts import Counts
from streamproc.state.dedupe import Layout
from streamproc.state.outbox import OutboxEntry
from streamproc.state.redis_store import RedisStateStore
from streamproc.state.store import Commit, StateStore
from streamproc.state.timers import Clock, Timer, TimerChange, hash_key
from streamproc.testing.memory_state import MemoryStateStore

SHARD = "orders/shardId-000000000000"
START = Position("TRIM_HORIZON")
DEDUPE_TTL = 172_800.0


class Kit(Protocol):
    """A store, and what a test must see or do behind its back."""

    store: StateStore

    async def dump(self) -> dict[str, Any]:
        """Return everything that is stored, expiry times included."""
        ...

    async def outbox(self) -> list[dict[str, bytes]]:
        """Return the outbox's entries."""
        ...

    async def dead_letters(self) -> list[dict[str, bytes]]:
        """Return the dead letters' entries."""
        ...

    async def stored(self, key: str) -> bytes | None:
        """Return a state's stored JSON."""
        ...

    async def counted(self, key: str) -> dict[str, Any]:
        """Return a counter's fields, members as their number; empty if there is none."""
        ...

    async def ttl(self, key: str) -> float | None:
        """Return the seconds that a state or counter has left; None without expiry."""
        ...

    async def expire(self, key: str) -> None:
        """Let a state's time run out, and the clock move on a little."""
        ...


class MemoryKit:
    def __init__(self, layout: Layout = "sets") -> None:
        self.now = time.time()
        self.store: MemoryStateStore = MemoryStateStore(
            "g", DEDUPE_TTL, lambda: self.now, layout=layout
        )

    async def dump(self) -> dict[str, Any]:
        return self.store.dump()

    async def outbox(self) -> list[dict[str, bytes]]:
        return self.store.outbox

    async def dead_letters(self) -> list[dict[str, bytes]]:
        return self.store.dead_letters

    async def stored(self, key: str) -> bytes | None:
        return self.store.stored(key)

    async def counted(self, key: str) -> dict[str, Any]:
        counts = self.store.counts(key)
        return {} if counts is None else counts.to_fields()

    async def ttl(self, key: str) -> float | None:
        dump = self.store.dump()
        expires_ms = {**dump["states"], **dump["counters"]}[key][-1]
        return None if expires_ms is None else expires_ms / 1000 - self.now

    async def expire(self, key: str) -> None:
        self.now += (await self.ttl(key) or 0) + 0.001


class RedisKit:
    def __init__(
        self, client: redis.asyncio.Redis, group: str = "g", layout: Layout = "sets"
    ) -> None:
        self.client = client
        self.store: RedisStateStore = RedisStateStore(client, group, DEDUPE_TTL, layout=layout)

    async def dump(self) -> dict[str, Any]:
        return {
            key.decode(errors="backslashreplace"): (
                await self.client.dump(key),
                await self.client.execute_command("PEXPIRETIME", key),
            )
            for key in sorted(await self.client.keys("*"))
        }

    async def outbox(self) -> list[dict[str, bytes]]:
        return await self._entries(self.store.keys.outbox)

    async def dead_letters(self) -> list[dict[str, bytes]]:
        return await self._entries(self.store.keys.dead_letters)

    async def stored(self, key: str) -> bytes | None:
        return await self.client.hget(key, "d")  # type: ignore[misc, no-any-return]

    async def counted(self, key: str) -> dict[str, Any]:
        counts = Counts(key)
        counts.load(await self.client.hgetall(key))  # type: ignore[misc]
        return counts.to_fields() if counts.version else {}

    async def ttl(self, key: str) -> float | None:
        left_ms = await self.client.pttl(key)
        return None if left_ms == -1 else left_ms / 1000

    async def expire(self, key: str) -> None:
        assert await self.client.pexpire(key, 0)
        before = time.time()
        while time.time() < before + 0.002:  # versions of new states tell milliseconds apart
            await self.client.ping()

    async def _entries(self, key: str) -> list[dict[str, bytes]]:
        return [
            {name.decode(): value for name, value in fields.items()}
            for _, fields in await self.client.xrange(key)
        ]


def position(number: int) -> Position:
    return Position(str(number))


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def cell(kit: Kit, key: str, ttl: float | None = None) -> StateCell:
    keys = kit.store.keys  # type: ignore[attr-defined]  # both stores have it
    return StateCell(keys.state_prefix("p") + key, Codec("p", dict, ttl))


def counter(kit: Kit, key: str, ttl: float | None = None) -> CounterCell:
    keys = kit.store.keys  # type: ignore[attr-defined]  # both stores have it
    ttl_ms = 0 if ttl is None else int(ttl * 1000)
    stored = Counts(keys.counter_prefix("p") + key)
    return CounterCell(stored, f"{keys.sketch_prefix('p')}{key}|", ttl_ms)


def counting(*cells: CounterCell) -> list[tuple[CounterCell, Any]]:
    """Return what a commit takes of what was done to counters."""
    found = [(cell, cell.take_changes()) for cell in cells]
    return [(cell, changes) for cell, changes in found if changes is not None]


def commit(start: Position, end: Position, **changes: Any) -> Commit:
    changes = {"shard": SHARD, "epoch": 1, "bucket": this_bucket(), **changes}
    return Commit(start=start, end=end, **changes)


def entry(id: str, data: bytes = b"{}") -> OutboxEntry:
    return OutboxEntry(id, "Emitted", f"key of {id}", f"cause of {id}", data)


def emitted(id: str, data: bytes = b"{}") -> dict[str, bytes]:
    """Return what `entry` is once it is stored."""
    key, cause = f"key of {id}".encode(), f"cause of {id}".encode()
    return {"id": id.encode(), "type": b"Emitted", "key": key, "cause": cause, "data": data}


def timer(name: str, at: int, clock: Clock = "wall", key: str = "pk") -> Timer:
    return Timer(
        processor="p",
        id=name,
        clock=clock,
        at=at,
        type="Due.v1",
        data=msgspec.Raw(b'{"n":1}'),
        key=key,
        hash=hash_key(key),
        nonce=f"nonce of {name} {at}",
    )


def setting(timer: Timer) -> TimerChange:
    return TimerChange(timer.name, timer)


def removal(name: str) -> TimerChange:
    return TimerChange(f"p:{name}", None)


def this_bucket() -> int:
    return int(time.time() // (DEDUPE_TTL / 2))


async def adopted(kit: Kit) -> Kit:
    """Return the kit after epoch 1 took the shard at its start."""
    await kit.store.adopt(SHARD, 1, START)
    return kit
