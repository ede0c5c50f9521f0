"""Runs processors on events as a worker would, in memory and without waiting."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from streamproc.deadletter import DeadLetter
from streamproc.events.envelope import encode_envelope, epoch_seconds, split_type
from streamproc.events.event import Event
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.processor import Key, Processor, codec_of, key_text
from streamproc.state.cache import CellCache
from streamproc.state.counts import CounterValues
from streamproc.testing.memory_state import MemoryStateStore

__all__ = ["Emitted", "Harness", "Scheduled"]

E = TypeVar("E", bound=Event)

_STREAM: Final = "test"
_SHARD: Final = "shardId-000000000000"
_FIELD: Final = f"{_STREAM}/{_SHARD}"
_MOST_ROUNDS: Final = 1_000
_CACHE_BYTES: Final = 16 * 1024 * 1024
_FIRST_SEQUENCE: Final = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
_FIRST_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Emitted(msgspec.Struct, frozen=True):
    """An event as it waits in the outbox.

    Attributes:
        type: its event type, without version.
        payload: its fields, as JSON values.
        id: its id, the same on every replay.
        key: its partition key downstream.
        cause: id of the event whose handler emitted it.
        time: RFC 3339 time of that event, if it had one.
    """

    type: str
    payload: dict[str, Any]
    id: str
    key: str
    cause: str
    time: str | None


class Scheduled(msgspec.Struct, frozen=True):
    """A timer that is pending.

    Attributes:
        processor: who scheduled it.
        id: its name there.
        at: when it is due, in seconds since the epoch.
        clock: ``event`` or ``wall``.
        type: the event type that is delivered, without version.
        payload: that event's fields, as JSON values.
    """

    processor: str
    id: str
    at: float
    clock: str
    type: str
    payload: dict[str, Any]


class Harness:
    """A worker with one shard, for tests: the real pipeline over a store in memory.

        async with Harness(Velocity(limit=2)) as h:
            await h.send(PaymentAuthorized(...), time="2026-01-01T00:00:00Z")
            assert h.state("velocity", "card_1").times == [1767225600.0]
            assert h.emitted == []

    Time is virtual: `now` starts with 2026, follows the events' times and the backoff between
    attempts, and never goes back. Nothing waits.

    Args:
        processors: what is tested; started and stopped with the harness.
        group: consumer group.
        concurrency: keys that async handlers of a batch work on side by side.
        dead_letter_unknown: whether events of undeclared types are put aside, not skipped.

    Attributes:
        store: the state store.
        now: seconds since the epoch; `advance` lets time pass, and timers fire.
        delays: seconds of each wait between attempts, in order.
    """

    def __init__(
        self,
        *processors: Processor[Any],
        group: str = "test",
        concurrency: int = 32,
        dead_letter_unknown: bool = False,
    ) -> None:
        self.now = _FIRST_MOMENT
        self.delays: list[float] = []
        self.store = MemoryStateStore(group, clock=lambda: self.now)
        self._processors = processors
        self._concurrency = concurrency
        self._dead_letter_unknown = dead_letter_unknown
        self._statistics = ShardStatistics()
        self._group = group
        self._epoch = 0
        self._sequence = _FIRST_SEQUENCE
        self._transactor: Transactor | None = None
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the processors and take the shard."""
        await self.restart()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the processors."""
        await self._running.aclose()

    async def restart(self, *processors: Processor[Any]) -> None:
        """Go on as a new worker would: next epoch, and nothing in memory but what is stored.

        Args:
            processors: a new release of them, if it is to be another; they are started, and the
                old ones stopped.
        """
        await self._running.aclose()
        self._processors = processors or self._processors
        routes = Routes(self._processors, [self.store.keys])
        async with AsyncExitStack() as starting:
            for processor in self._processors:
                await processor.start()
                starting.push_async_callback(processor.stop)
            self._running = starting.pop_all()
        await self._take_shard(routes)

    async def _take_shard(self, routes: Routes) -> None:
        if self._transactor is not None:
            self._statistics.add(self._transactor.statistics)
        self._epoch += 1
        engine = Engine(
            group=self._group,
            stream=_STREAM,
            routes=routes,
            stores=(self.store,),
            cache=CellCache(_CACHE_BYTES),
            gate=KeyGate(),
            concurrency=self._concurrency,
            dead_letter_unknown=self._dead_letter_unknown,
            sleep=self._sleep,
            rng=random.Random(self._epoch),
            wall_clock=lambda: self.now,
        )
        adopted = await self.store.adopt(_FIELD, self._epoch, TRIM_HORIZON)
        start = ChainStart(adopted.position or TRIM_HORIZON, adopted.timers)
        self._transactor = Transactor(engine, _SHARD, self._epoch, [start])

    async def send(
        self,
        *events: Event,
        time: str | float | None = None,
        key: str | None = None,
        id: str | None = None,
    ) -> None:
        """Process events as one batch; see `record` for the arguments.

        Raises:
            ShardHalted: a handler failed, and its policy is to halt.
        """
        await self.process(*[self.record(event, time=time, key=key, id=id) for event in events])

    async def send_raw(self, *data: bytes, key: str = "raw") -> None:
        """Process records that hold any bytes as one batch."""
        await self.process(*[self.raw_record(each, key=key) for each in data])

    async def process(self, *records: Record) -> None:
        """Process records of `record` and `raw_record` as one batch."""
        if records:
            await self._entered.process(records)
        await self._fire()

    async def advance(self, seconds: float) -> None:
        """Let time pass; timers by the wall clock fire, each when it is due.

        Raises:
            ShardHalted: a timer's handler failed, and its policy is to halt.
        """
        end = self.now + seconds
        while True:
            await self._fire()
            due_in = self._entered.timers_due_in()
            if due_in is None or self.now + due_in > end:
                break
            self.now += due_in
        self.now = end

    async def _fire(self) -> None:
        """Fire what is due now, and what that makes due."""
        rounds = 0
        while self._entered.timers_due_in() == 0:
            await self._entered.fire()
            rounds += 1
            if rounds == _MOST_ROUNDS:
                raise RuntimeError(
                    f"timers that fire schedule ever more that are due: {self.timers}"
                )

    @property
    def _entered(self) -> Transactor:
        if self._transactor is None:
            raise RuntimeError("enter the harness first: async with Harness(...) as h")
        return self._transactor

    def record(
        self,
        event: Event,
        *,
        time: str | float | None = None,
        key: str | None = None,
        id: str | None = None,
    ) -> Record:
        """Return the next record of the stream, which holds `event`.

        Args:
            event: what happened.
            time: when, as RFC 3339 text or in seconds since the epoch; None leaves it out.
            key: partition key; the event's id if None.
            id: the envelope's id. If None, that of the event, or a digest of it where its type
                declares no id: an equal event is a duplicate then.
        """
        cls = type(event)
        if id is None and cls.__event_id__ is not None:
            id = str(getattr(event, cls.__event_id__))
        elif id is None:
            id = blake2b(msgspec.json.encode(event), digest_size=16).hexdigest()
        if isinstance(time, (int, float)):
            time = datetime.fromtimestamp(time, UTC).isoformat()
        if time is not None:
            self.now = max(self.now, epoch_seconds(time))
        data = encode_envelope(
            id=id,
            source="harness",
            type=cls.__event_type__,
            version=cls.__event_version__,
            time=time,
            data=event,
        )
        return self.raw_record(data, key=id if key is None else key)

    def raw_record(self, data: bytes, *, key: str = "raw") -> Record:
        """Return the next record of the stream, which holds `data` and arrives now."""
        self._sequence += 1
        return Record(str(self._sequence), self.now, data, key)

    def state(self, processor: str, key: Key) -> Any:
        """Return what is stored for a key, of the processor's state type; None if nothing is."""
        named = {each.name: each for each in self._processors}[processor]
        full_key = self.store.keys.state_prefix(processor) + key_text(key)
        raw, codec = self.store.stored(full_key), codec_of(named)
        if raw is None or codec is None:
            return None
        return codec.decode(raw, full_key, self.store.schema(full_key))

    def counters(self, processor: str, key: Key) -> CounterValues | None:
        """Return what a key's counters hold; None if nothing was counted."""
        counts = self.store.counts(self.store.keys.counter_prefix(processor) + key_text(key))
        return None if counts is None else counts.values()

    @property
    def emitted(self) -> list[Emitted]:
        """Everything emitted so far, in order."""
        return [_emitted(entry) for entry in self.store.outbox]

    def emitted_as(self, event: type[E]) -> list[E]:
        """Return the emitted events of one type, in order."""
        return [
            msgspec.convert(each.payload, event)
            for each in self.emitted
            if each.type == event.__event_type__
        ]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """Everything put aside so far, in order."""
        return [DeadLetter.from_fields(entry) for entry in self.store.dead_letters]

    @property
    def timers(self) -> list[Scheduled]:
        """The timers that are pending, the earliest first."""
        return [
            Scheduled(
                timer.processor,
                timer.id,
                timer.at / 1000,
                timer.clock,
                split_type(timer.type)[0],
                msgspec.json.decode(timer.data),
            )
            for timer in self.store.timers(_FIELD)
        ]

    @property
    def parked(self) -> dict[str, list[DeadLetter]]:
        """What waits under each parked partition key, in order."""
        return {
            key: [DeadLetter.from_json(record) for record in records]
            for key, records in self.store.parked().items()
        }

    async def redrive(self, partition_key: str) -> None:
        """Process what is parked under a key, until nothing is or an event fails again."""
        if self._transactor is None:
            raise RuntimeError("enter the harness first: async with Harness(...) as h")
        while await self._transactor.redrive(0, partition_key):
            pass

    @property
    def statistics(self) -> ShardStatistics:
        """The counters since the start, restarts included."""
        total = ShardStatistics()
        total.add(self._statistics)
        if self._transactor is not None:
            total.add(self._transactor.statistics)
        return total

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def _emitted(entry: dict[str, bytes]) -> Emitted:
    envelope = msgspec.json.decode(entry["data"])
    return Emitted(
        type=entry["type"].decode(),
        payload=envelope["data"],
        id=entry["id"].decode(),
        key=entry["key"].decode(),
        cause=entry["cause"].decode(),
        time=envelope.get("time"),
    )
