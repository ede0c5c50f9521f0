"""Empties a Redis stream into a destination, in order; one relay of a stream works at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from streamproc.sinks.lock import RelayLock

__all__ = ["Entry", "RelayStatistics", "StreamRelay"]

log = logging.getLogger(__name__)

_LEAST_BACKOFF: Final = 0.2
_MOST_BACKOFF: Final = 5.0
_RELEASE_S: Final = 1.0

T = TypeVar("T")

Entry = tuple[bytes, dict[bytes, bytes]]
"""An entry of a Redis stream: its id and its fields."""


class RelayStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a relay has done, and what it sees.

    Attributes:
        delivered: entries acknowledged by the sink.
        failures: deliveries that failed, wholly or in part, and calls of Redis that failed.
        active: whether this relay is the one that delivers now.
        size: entries in the stream, as of the last look; None while another relay is active.
        lag_seconds: age of the oldest one there, 0 when there is none.
    """

    delivered: int
    failures: int
    active: bool
    size: int | None
    lag_seconds: float | None


class StreamRelay(Generic[T]):
    """Delivers the entries of a Redis stream in order, and removes what was acknowledged.

    Invariant: an entry is removed only after the destination has acknowledged it. A crash in
    between delivers it again. An entry that the destination does not take holds back the later ones
    of its key; other keys go on.

    Args:
        client: Redis; not closed here.
        stream: the stream's key.
        lock: the key of the lock that one relay holds at a time.
        read: makes of an entry what is delivered, and the key that its order is kept by.
        deliver: sends; returns the indexes of what the destination has for good.
        worker_id: shown as the owner of the lock.
        batch: most events in one delivery.
        poll_interval: seconds between looks at an empty outbox.
        standby_interval: seconds between tries to become the active relay.
        lock_ttl: seconds until another relay takes over from one that died.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
        sleep: waits that many seconds.
        rng: spreads waits.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        stream: str,
        lock: str,
        read: Callable[[Entry], tuple[str, T]],
        deliver: Callable[[Sequence[T]], Awaitable[set[int]]],
        worker_id: str,
        *,
        batch: int = 500,
        poll_interval: float = 0.1,
        standby_interval: float = 2.0,
        lock_ttl: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._stream = stream
        self._entry = read
        self._deliver_to = deliver
        self._batch = batch
        self._poll_interval = poll_interval
        self._standby_interval = standby_interval
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._lock = RelayLock(client, lock, worker_id, lock_ttl, clock=clock, sleep=sleep)
        self._stopping = asyncio.Event()
        self._delivered = 0
        self._failures = 0
        self._failures_in_a_row = 0
        self._active = False
        self._size: int | None = None
        self._lag: float | None = None

    def stop(self) -> None:
        """Have `run` return once the delivery in hand is done."""
        self._stopping.set()

    def statistics(self) -> RelayStatistics:
        """Return counters and state."""
        return RelayStatistics(
            delivered=self._delivered,
            failures=self._failures,
            active=self._active,
            size=self._size,
            lag_seconds=self._lag,
        )

    async def run(self) -> None:
        """Wait for the group's turn and deliver, until stopped."""
        while not self._stopping.is_set():
            try:
                if await self._lock.acquire():
                    await self._lead()
            except (RedisError, OSError) as error:
                self._note_failure("the lock", error)
            except Exception as error:
                log.exception("%s: the relay failed by a defect; starting it again", self._stream)
                self._note_failure("the relay", error)
            await self._pause(self._standby_interval * (0.5 + self._rng.random()))

    async def _lead(self) -> None:
        """Deliver for as long as the lock is ours."""
        self._active = True
        log.debug("relaying %s", self._stream)
        keeping = asyncio.create_task(self._lock.keep(), name="relay lock")
        delivering = asyncio.create_task(self._deliver(), name="relay")
        try:
            await asyncio.wait((keeping, delivering), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done() and not delivering.done():
                log.warning("%s: another relay may have taken over; standing by", self._stream)
        finally:
            self._active, self._size, self._lag = False, None, None
            keeping.cancel()
            delivering.cancel()
            await asyncio.gather(keeping, delivering, return_exceptions=True)
            await self._release()
        for task in (keeping, delivering):
            if not task.cancelled():
                task.result()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASE_S):
                await self._lock.release()
        except (RedisError, OSError) as error:
            log.info("%s: the relay's lock will expire by itself: %r", self._stream, error)

    async def _deliver(self) -> None:
        while not self._stopping.is_set():
            try:
                moved = await self._sweep()
            except (RedisError, OSError) as error:
                self._note_failure("Redis", error)
                moved = False
            if self._failures_in_a_row:
                await self._pause(self._backoff())
            elif not moved:
                await self._pause(self._poll_interval)

    async def _sweep(self) -> bool:
        """Go once through the outbox from its oldest event on; True when anything left it."""
        start = "-"
        blocked: set[str] = set()
        moved = False
        while not self._stopping.is_set():
            entries = await self._read(start)
            waiting = [
                (entry[0], key, thing)
                for entry in entries
                for key, thing in (self._entry(entry),)
                if key not in blocked
            ]
            if waiting:
                done = await self._send(waiting)
                if done is None:
                    return moved
                moved = moved or bool(done)
                blocked.update(key for at, (_, key, _) in enumerate(waiting) if at not in done)
            if len(entries) < self._batch:
                break
            start = f"({entries[-1][0].decode()}"
        if not blocked:
            self._failures_in_a_row = 0
        return moved

    async def _read(self, start: str) -> list[Entry]:
        # Two calls, not a pipeline: those are not bounded in time.
        size = await self._client.xlen(self._stream)
        found: Any = await self._client.xrange(self._stream, min=start, count=self._batch)
        entries: list[Entry] = found
        self._size = size
        if start == "-":
            self._lag = self._age(entries[0][0]) if entries else 0.0
        return entries

    async def _send(self, waiting: list[tuple[bytes, str, T]]) -> set[int] | None:
        """Deliver, remove what was acknowledged, and return its indexes; None if the sink fails."""
        try:
            taken = await self._deliver_to([thing for _, _, thing in waiting])
            done = set(range(len(waiting))).intersection(taken)
        except Exception as error:  # Sinks are plugins: whatever they raise is a failed delivery.
            self._note_failure("the sink", error)
            return None
        if done:
            self._delivered += len(done)
            await self._client.xdel(self._stream, *[waiting[at][0] for at in sorted(done)])
        if len(done) < len(waiting):
            self._note_failure("the sink", f"{len(waiting) - len(done)} entries not taken")
        return done

    def _note_failure(self, what: str, why: Exception | str) -> None:
        self._failures += 1
        self._failures_in_a_row += 1
        # The first of a row, and then ever more seldom: the counter tells the rest.
        if self._failures_in_a_row.bit_count() == 1:
            text = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
            log.warning("%s: %s fails; trying again: %s", self._stream, what, text)

    def _backoff(self) -> float:
        doublings = min(self._failures_in_a_row - 1, 20)
        return min(_MOST_BACKOFF, _LEAST_BACKOFF * 2.0**doublings) * (0.5 + self._rng.random() / 2)

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until `stop`."""
        waits = [
            asyncio.ensure_future(self._sleep(seconds)),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _age(self, entry_id: bytes) -> float:
        milliseconds = int(entry_id.partition(b"-")[0])
        return max(0.0, self._wall_clock() - milliseconds / 1000)
