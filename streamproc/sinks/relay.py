"""Empties the outbox and the dead letters into sinks; one relay of a partition works at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from streamproc.config import Config
from streamproc.deadletter import DeadLetter
from streamproc.sinks.letters import LetterSink, open_letter_sink
from streamproc.sinks.lock import RelayLock
from streamproc.sinks.sink import OutgoingEvent, Sink, open_sink
from streamproc.state.keys import Keys

__all__ = [
    "DeadLetterRelay",
    "OutboxRelay",
    "RelayStatistics",
    "Relays",
    "StreamRelay",
    "open_letter_relays",
    "open_relays",
]

log = logging.getLogger(__name__)

_LEAST_BACKOFF: Final = 0.2
_MOST_BACKOFF: Final = 5.0
_STOP_S: Final = 5.0
_RELEASE_S: Final = 1.0

T = TypeVar("T")

_Entry = tuple[bytes, dict[bytes, bytes]]


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
        read: Callable[[_Entry], tuple[str, T]],
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

    async def _read(self, start: str) -> list[_Entry]:
        # Two calls, not a pipeline: those are not bounded in time.
        size = await self._client.xlen(self._stream)
        found: Any = await self._client.xrange(self._stream, min=start, count=self._batch)
        entries: list[_Entry] = found
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


class OutboxRelay(StreamRelay[OutgoingEvent]):
    """Delivers a partition's outbox: each event again under the same id, each key in order.

    Args:
        client: Redis; not closed here.
        keys: the partition's keys.
        sink: the destination; not closed here.
        worker_id: shown as the owner of the lock.
        options: further arguments of `StreamRelay`.
    """

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, sink: Sink, worker_id: str, **options: Any
    ) -> None:
        super().__init__(
            client, keys.outbox, keys.relay, _outgoing, sink.send, worker_id, **options
        )


class DeadLetterRelay(StreamRelay[DeadLetter]):
    """Delivers a partition's dead letters, in any order.

    Args:
        client: Redis; not closed here.
        keys: the partition's keys.
        sink: the destination; not closed here.
        worker_id: shown as the owner of the lock.
        options: further arguments of `StreamRelay`.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        sink: LetterSink,
        worker_id: str,
        **options: Any,
    ) -> None:
        lock = keys.dead_letter_relay
        super().__init__(client, keys.dead_letters, lock, _letter, sink.send, worker_id, **options)


class Relays:
    """A worker's relays of one kind, one for each partition, which share the sink."""

    def __init__(self, relays: Sequence[StreamRelay[Any]]) -> None:
        self._relays = tuple(relays)

    async def run(self) -> None:
        """Run all until they are stopped."""
        await asyncio.gather(*[relay.run() for relay in self._relays])

    def stop(self) -> None:
        """Have `run` return once the deliveries in hand are done."""
        for relay in self._relays:
            relay.stop()

    def statistics(self) -> RelayStatistics:
        """Return sums; size and lag over the partitions that this worker relays now."""
        each = [relay.statistics() for relay in self._relays]
        sizes = [one.size for one in each if one.size is not None]
        lags = [one.lag_seconds for one in each if one.lag_seconds is not None]
        return RelayStatistics(
            delivered=sum(one.delivered for one in each),
            failures=sum(one.failures for one in each),
            active=any(one.active for one in each),
            size=sum(sizes) if sizes else None,
            lag_seconds=max(lags, default=None),
        )


@asynccontextmanager
async def open_relays(
    config: Config,
    client: redis.asyncio.Redis,
    keys: Sequence[Keys],
    worker_id: str,
    **options: Any,
) -> AsyncIterator[Relays | None]:
    """Relay the outboxes to the configured sink while the context is open; None without a sink.

    At the end the deliveries in hand get 5 s; what is left, another worker's relays deliver.

    Args:
        config: `outbox` names the sink.
        client: Redis; must outlive the context.
        keys: those of each partition.
        worker_id: shown as the owner of the locks.
        options: further arguments of each `StreamRelay`.

    Raises:
        ConfigError: no such sink is installed, or an option of it is wrong.
    """
    if config.outbox.sink is None:
        yield None
        return
    sink = await open_sink(config.outbox.sink, config.outbox.options)
    options = _pace(len(keys)) | options
    relays = Relays([OutboxRelay(client, each, sink, worker_id, **options) for each in keys])
    async with _running(relays, sink, "outbox relays"):
        yield relays


@asynccontextmanager
async def open_letter_relays(
    config: Config,
    client: redis.asyncio.Redis,
    keys: Sequence[Keys],
    worker_id: str,
    **options: Any,
) -> AsyncIterator[Relays | None]:
    """Relay dead letters to the configured sink, as `open_relays` does with the outboxes.

    Raises:
        ConfigError: no such sink is installed, or an option of it is wrong.
    """
    if config.dead_letters.sink is None:
        yield None
        return
    sink = await open_letter_sink(config.dead_letters.sink, config.dead_letters.options)
    options = _pace(len(keys)) | options
    relays = Relays([DeadLetterRelay(client, each, sink, worker_id, **options) for each in keys])
    async with _running(relays, sink, "dead-letter relays"):
        yield relays


def _pace(partitions: int) -> dict[str, float]:
    """Return intervals by which all relays of a worker look a hundred times a second at most."""
    return {
        "poll_interval": max(0.1, partitions / 100),
        "standby_interval": max(2.0, partitions / 50),
    }


@asynccontextmanager
async def _running(relays: Relays, sink: Sink | LetterSink, name: str) -> AsyncIterator[None]:
    try:
        task = asyncio.create_task(relays.run(), name=name)
        try:
            yield
        finally:
            relays.stop()
            await asyncio.wait((task,), timeout=_STOP_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await sink.aclose()


def _outgoing(entry: _Entry) -> tuple[str, OutgoingEvent]:
    entry_id, fields = entry
    text = {name: fields.get(name, b"").decode() for name in (b"id", b"type", b"key", b"cause")}
    event = OutgoingEvent(
        id=text[b"id"] or entry_id.decode(),
        type=text[b"type"],
        key=text[b"key"],
        cause=text[b"cause"],
        data=fields.get(b"data", b""),
    )
    return event.key, event


def _letter(entry: _Entry) -> tuple[str, DeadLetter]:
    # No order to keep: a letter that cannot go holds up no other.
    entry_id, fields = entry
    letter = DeadLetter.from_fields({name.decode(): value for name, value in fields.items()})
    return entry_id.decode(), letter
