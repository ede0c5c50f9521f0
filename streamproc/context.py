"""What a handler sees of the transaction it runs in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple

import msgspec
from typing_extensions import TypeVar

from streamproc.errors import ContextClosed, ProcessorError
from streamproc.events.envelope import EnvelopeWriter, envelope_writer, epoch_seconds
from streamproc.events.event import Event
from streamproc.state.cell import StateCell
from streamproc.state.counters import Counter, CounterCell
from streamproc.state.outbox import OutboxEntry
from streamproc.state.timers import Clock, Timer, hash_key, timer_name

__all__ = ["Context", "Counters", "Effects", "Emission", "Item", "Setting", "States"]

S = TypeVar("S", default=None)


# One for all items, where a dict as the default would be made anew for each.
_NO_COUNTERS: Final[Mapping[str, Mapping[Any, CounterCell]]] = MappingProxyType({})


# Without cyclic collection: nothing that an item holds refers back to it.
class Item(msgspec.Struct, gc=False, eq=False):
    """One event of a batch on its way to the handlers.

    Attributes:
        order: index in the batch; emissions leave in this order. A timer's lies between those of
            the records that it is delivered between.
        event_id: the business id, within its event type.
        digest: 16 bytes that stand for (event type, event id) in the dedupe sets.
        partition: where the states of its keys and its mark lie.
        time: the envelope's RFC 3339 time, if it carries one.
        arrival: seconds since the epoch at which Kinesis took the record.
        calls: the handler calls that it leads to.
        timer: the timer that this is the event of; None for a record's.
        counters: the counters that its handlers declared: processor, handler's key, counter.
    """

    order: float
    event_type: str
    event_id: str
    digest: bytes
    time: str | None
    arrival: float
    sequence: str
    partition_key: str
    calls: list[Any] = msgspec.field(default_factory=list)
    partition: int = 0
    timer: Timer | None = None
    counters: Mapping[str, Mapping[Any, CounterCell]] = _NO_COUNTERS

    def is_behind(self, parked: Collection[str]) -> bool:
        """Whether it has to wait, these partition keys being parked; a timer has none."""
        return self.partition_key in parked and self.timer is None


class Emission(OutboxEntry, frozen=True, gc=False, eq=False):
    """An event that a handler emitted, encoded, buffered until the commit.

    Attributes:
        order: place of the causing event in its batch.
        processor: who emitted it.
    """

    order: float
    processor: str


class Setting(NamedTuple):
    """A timer that a handler scheduled, or with None cancelled, buffered until the commit.

    Attributes:
        order: place of the causing event in its batch.
        name: the timer's name.
        timer: what is scheduled.
    """

    order: float
    name: str
    timer: Timer | None


class Effects:
    """What the handlers of one try did besides changing states.

    Attributes:
        emissions: events for the outbox.
        settings: timers that were scheduled or cancelled.
        ensure_deliverable: raises `ProcessorError` for an event that a processor cannot schedule.
    """

    __slots__ = ("emissions", "ensure_deliverable", "settings")

    def __init__(self, ensure_deliverable: Callable[[str, Event], None]) -> None:
        self.emissions: list[Emission] = []
        self.settings: list[Setting] = []
        self.ensure_deliverable = ensure_deliverable


class States(Mapping[Any, S]):
    """The states of a handler that declared `keys=`; assign to replace one."""

    __slots__ = ("_context",)

    def __init__(self, context: Context[S]) -> None:
        # Asked each time: a handler may keep this beyond its time, and the context is closed then.
        self._context = context

    def __getitem__(self, key: Any) -> S:
        return self._context._cells[key].read()  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: S) -> None:
        self._context._cells[key].write(value)

    def __iter__(self) -> Any:
        return iter(self._context._cells)

    def __len__(self) -> int:
        return len(self._context._cells)


class Counters(Mapping[Any, Counter]):
    """The counters of a handler that declared `counters=`, by its own keys."""

    __slots__ = ("_context",)

    def __init__(self, context: Context[Any]) -> None:
        self._context = context

    def __getitem__(self, key: Any) -> Counter:
        context = self._context
        return context._item.counters[context.processor][key].view()

    def __iter__(self) -> Any:
        context = self._context
        return iter(context._item.counters.get(context.processor, ()))

    def __len__(self) -> int:
        context = self._context
        return len(context._item.counters.get(context.processor, ()))


class Context(Generic[S]):
    """The transaction as one handler call sees it.

    Everything done through it is buffered: it takes effect when the batch commits and leaves no
    trace when the handler raises. Valid during the call only: a handler that outran its timeout,
    or a task that it left running, meets `ContextClosed` at every use.

    Attributes:
        attempt: 1 for the first try of this event.
        processor: name of the processor.
        group: consumer group.
        stream: stream name.
        shard_id: the shard that the record came from.
    """

    __slots__ = ("_begin_id", "_cells", "_counters", "_effects", "_item", "_key", "_ordinal",
                 "_person", "_scheduled", "_states", "_writers", "attempt", "group", "processor",
                 "shard_id", "stream")  # fmt: skip

    def __init__(
        self,
        processor: str,
        group: str,
        stream: str,
        shard_id: str,
        effects: Effects,
        attempt: int = 1,
    ) -> None:
        self.processor = processor
        self.group = group
        self.stream = stream
        self.shard_id = shard_id
        self.attempt = attempt
        self._effects = effects
        self._person = _person(processor)
        # A copy of a hash costs half of what one from scratch does.
        self._begin_id = blake2b(digest_size=16, person=self._person).copy
        self._writers: dict[type, EnvelopeWriter] = {}
        self._states: States[S] = States(self)
        self._counters = Counters(self)
        self._item: Item = None  # type: ignore[assignment]  # set by begin() before any call
        self._key: str | None = None
        self._cells: Mapping[Any, StateCell] = {}
        self._ordinal = 0
        self._scheduled = 0

    def begin(self, item: Item, key: str | None, cells: Mapping[Any, StateCell]) -> None:
        """Point the context at the next event; the pipeline calls this, handlers do not."""
        self._item = item
        self._key = key
        self._cells = cells
        self._ordinal = 0
        self._scheduled = 0

    def close(self) -> None:
        """Make every further use an error; the pipeline calls this, handlers do not."""
        # Another class instead of a flag: an open context pays nothing for it.
        self.__class__ = _ClosedContext

    @property
    def state(self) -> S:
        """The state of the handler's key: change it in place, or assign a new value."""
        return self._cell().read()  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: S) -> None:
        self._cell().write(value)

    @property
    def states(self) -> States[S]:
        """The states of all keys that `keys=` returned, by those keys."""
        return self._states

    @property
    def counters(self) -> Counters:
        """The counters of all keys that `counters=` returned, by those keys."""
        return self._counters

    @property
    def key(self) -> str | None:
        """The text of the handler's key; None when `key=` was not declared."""
        return self._key

    @property
    def event_id(self) -> str:
        """The event's id: unique within its type, the same for every delivery of it."""
        return self._item.event_id

    @property
    def event_time(self) -> float:
        """When the event happened, in seconds since the epoch; its arrival if it does not say.

        Raises:
            DecodeError: the envelope's time is not RFC 3339 with an offset.
        """
        time = self._item.time
        return self._item.arrival if time is None else epoch_seconds(time)

    @property
    def arrival_time(self) -> float:
        """When Kinesis took the record, in seconds since the epoch, to the millisecond."""
        return self._item.arrival

    @property
    def sequence_number(self) -> str:
        """The record's sequence number; differs between deliveries of one event."""
        return self._item.sequence

    @property
    def partition_key(self) -> str:
        """The record's partition key."""
        return self._item.partition_key

    @property
    def idempotency_key(self) -> str:
        """A key for calls to other systems: the same on every retry and replay of this event."""
        return self._digest(b"call")

    def emit(self, event: Event, *, key: str | None = None) -> str:
        """Buffer an event for the outbox; return its id, which every replay gives again.

        Args:
            event: what happened.
            key: its partition key downstream; the handler's key if None, and the record's
                partition key if the handler has none.
        """
        self._ordinal = ordinal = self._ordinal + 1
        item, event_class = self._item, type(event)
        hashed = self._begin_id()
        hashed.update(b"%b%d" % (item.digest, ordinal))
        emission_id = hashed.hexdigest()
        if key is None:
            key = self._key if self._key is not None else item.partition_key
        # All of it is encoded here, so that what cannot be written is its own handler's failure.
        if type(key) is not str or not key.isascii():
            key = key.encode().decode()
        writer = self._writers.get(event_class) or self._writer(event_class)
        data = writer.encode(emission_id, item.time, event)
        kind = event_class.__event_type__
        self._effects.emissions.append(
            Emission(emission_id, kind, key, item.event_id, data, item.order, self.processor)
        )
        return emission_id

    def schedule(
        self, at: float | datetime, event: Event, *, id: str, clock: Clock = "event"
    ) -> None:
        """Have an event delivered to this processor's handler of its type at a later time, once.

        Its handler runs in a transaction as any other; `event_time` is `at` there. An event is
        delivered by the shard that scheduled it, or by those that succeed that one.

        Args:
            at: seconds since the epoch, or an aware datetime; kept to the millisecond.
            event: what is delivered. Its key must lie in the partition of the present event's.
            id: names the timer within the processor; one that is pending under it is replaced.
            clock: ``event``: due when an event of this time or later comes in the shard, and
                delivered before that event. ``wall``: due when it is that time.

        Raises:
            ProcessorError: no handler of this processor takes the event, its key lies in another
                partition, or `id` or `at` cannot be used.
        """
        self._scheduled += 1
        item, event_class = self._item, type(event)
        self._effects.ensure_deliverable(self.processor, event)
        timer = Timer(
            processor=self.processor,
            id=id,
            clock=clock,
            at=self._milliseconds(at),
            type=f"{event_class.__event_type__}.v{event_class.__event_version__}",
            data=msgspec.Raw(msgspec.json.encode(event)),
            key=item.partition_key,
            hash=hash_key(item.partition_key),
            nonce=self._digest(b"timer %d" % self._scheduled),
        )
        self._set(timer.id, timer)

    def cancel(self, id: str) -> None:
        """Remove a timer of this processor; one that fired or never was is no error.

        A timer that is due in the same batch after the present event does not fire.

        Raises:
            ProcessorError: `id` cannot be used.
        """
        self._set(id, None)

    def _writer(self, event_class: type[Event]) -> EnvelopeWriter:
        source = f"streamproc/{self.group}/{self.processor}"
        name, version = event_class.__event_type__, event_class.__event_version__
        writer = self._writers[event_class] = envelope_writer(source, name, version)
        return writer

    def _digest(self, part: bytes) -> str:
        """Return an id that this event leads to in every run, of `part` in this processor."""
        key = self._item.digest
        return blake2b(part, digest_size=16, key=key, person=self._person).hexdigest()

    def _set(self, id: str, timer: Timer | None) -> None:
        if not id or not id.isprintable():
            raise ProcessorError(f"{self.processor}: a timer's id is printable text, not {id!r}")
        name = timer_name(self.processor, id)
        self._effects.settings.append(Setting(self._item.order, name, timer))

    def _milliseconds(self, at: float | datetime) -> int:
        if isinstance(at, datetime):
            if at.tzinfo is None:
                raise ProcessorError(
                    f"{self.processor}: ctx.schedule at {at}, a time without a zone"
                )
            at = at.timestamp()
        try:
            milliseconds = round(at * 1000)
            datetime.fromtimestamp(milliseconds / 1000, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise ProcessorError(f"{self.processor}: ctx.schedule at {at}: {error}") from error
        return milliseconds

    def _cell(self) -> StateCell:
        if self._key is None or not self._cells:
            raise ProcessorError(
                f"{self.processor}: ctx.state needs Processor[<state type>] and @on(..., key=...); "
                "with keys= use ctx.states"
            )
        return self._cells[self._key]


class _ClosedContext(Context[Any]):
    """What a context is when its call is over."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in ("close", "__class__"):
            return object.__getattribute__(self, name)
        processor = object.__getattribute__(self, "processor")
        raise ContextClosed(
            f"{processor}: ctx.{name} was used after its handler's call was over, by a handler "
            "that outran its timeout or by a task that it left running; the event was or will be "
            "handled without it, so end such work with the handler"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)


@lru_cache(maxsize=256)
def _person(processor: str) -> bytes:
    return blake2b(processor.encode(), digest_size=16).digest()
