"""A shard's timers in one partition: which are due, their events, and what handlers change."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final, Protocol

import msgspec

from streamproc.context import Item, Setting
from streamproc.errors import DecodeError, ProcessorError
from streamproc.events.envelope import epoch_seconds, split_type
from streamproc.events.event import Event
from streamproc.pipeline.decode import DecodedBatch, key_texts, make_call, make_counters
from streamproc.pipeline.routes import Routes, Target
from streamproc.processor import Handler, Policy
from streamproc.state.cache import CellCache
from streamproc.state.cell import StateCell
from streamproc.state.keys import partition_of_key
from streamproc.state.store import StateStore
from streamproc.state.timers import Clock, Timer, TimerChange, TimerState

__all__ = ["ShardTimers", "places"]

# Most timers by one clock in a batch; the others follow in the next.
_MOST_TIMERS: Final = 1_000


class Persist(Protocol):
    """Repeats a call of the store until it is answered."""

    def __call__(self, call: Callable[[], Awaitable[Any]], /) -> Awaitable[Any]:
        """Return the answer."""
        ...


class ShardTimers:
    """Fires a shard's timers of one partition, as events of its batches.

    A firing is an item that is marked as seen like any event, so that it takes effect once, also
    in a batch that has nothing but timers and thus does not move the position.

    Args:
        store: the partition's.
        shard: field of the positions hash, ``stream/shard``.
        routes: processors and their handlers.
        partition: which one.
        cache: cells between batches.
        state: what the shard's adoption told.
        persist: repeats calls of the store.
    """

    def __init__(
        self,
        store: StateStore,
        shard: str,
        routes: Routes,
        partition: int,
        cache: CellCache,
        state: TimerState,
        persist: Persist,
    ) -> None:
        self._store = store
        self._shard = shard
        self._routes = routes
        self._partition = partition
        self._cache = cache
        self._persist = persist
        self._state: TimerState | None = state
        self._limit = _MOST_TIMERS

    @property
    def pending(self) -> int:
        """How many there are, as of the last answer that told."""
        return 0 if self._state is None else self._state.pending

    def note(self, state: TimerState | None) -> None:
        """Take over what a commit told; None where its answer was lost."""
        self._state = state
        self._limit = min(_MOST_TIMERS, self._limit * 2)

    def fewer(self) -> None:
        """Take fewer at once: others keep changing what the handlers read."""
        self._limit = max(1, self._limit // 2)

    def due_in(self) -> float | None:
        """Return seconds until one is due, by what is known now; None when there is none."""
        state = self._state
        if state is None:
            return 0.0
        if (
            state.next_event is not None
            and state.event_clock is not None
            and state.next_event <= state.event_clock
        ):
            return 0.0
        if state.next_wall is None:
            return None
        return max(0, state.next_wall - self._store.now_ms()) / 1000

    async def add_to(self, batch: DecodedBatch) -> DecodedBatch:
        """Return the batch with the events of all timers that are due in it, up to a limit.

        Those by the wall clock come first, those by event time before the first event that
        reaches their time.
        """
        now = self._store.now_ms()
        state = self._state
        if state is None:
            _, state = await self._fetch("wall", now, 0)
        wall: list[Timer] = []
        event: list[Timer] = []
        if state.next_wall is not None and state.next_wall <= now:
            wall, state = await self._fetch("wall", now, self._limit)
        self._state = state
        clocks: list[int] = []
        if state.next_event is not None:
            clocks = _clocks(batch.items, state.event_clock)
            reached = clocks[-1] if clocks else state.event_clock
            if reached is not None and state.next_event <= reached:
                event, _ = await self._fetch("event", reached, self._limit)
        if not wall and not event:
            return batch
        at = [0] * len(wall) + places([timer.at for timer in event], clocks)
        return self._merged(batch, [*wall, *event], at)

    def changes(
        self, batch: DecodedBatch, settings: Sequence[Setting]
    ) -> tuple[list[TimerChange], int | None]:
        """Return what a commit is to change: timers, and the shard's event time."""
        final: dict[str, Timer | None] = {}
        if batch.has_timers:
            final = {item.timer.name: None for item in batch.items if item.timer is not None}
        for setting in settings:
            final[setting.name] = setting.timer
        state = TimerState() if self._state is None else self._state
        clock = None
        if (
            state.event_clock is not None
            or state.next_event is not None
            or any(timer is not None and timer.clock == "event" for timer in final.values())
        ):
            clocks = _clocks([i for i in batch.items if i.timer is None], state.event_clock)
            clock = clocks[-1] if clocks and clocks[-1] != state.event_clock else None
        return [TimerChange(name, timer) for name, timer in final.items()], clock

    def ensure_deliverable(self, processor: str, event: Event) -> None:
        """Make sure that a processor can be handed an event that it schedules.

        Raises:
            ProcessorError: it has no handler for it, or its key lies in another partition.
        """
        target = self._routes.target(processor, type(event).__event_type__, self._partition)
        if target is None:
            raise ProcessorError(
                f"{processor}: it has no handler for {type(event).__event_type__}, which it "
                "schedules; declare one with @on"
            )
        if self._routes.partitions > 1 and self._is_elsewhere(target, event):
            raise ProcessorError(
                f"{processor}: the key of the {type(event).__event_type__} that it schedules lies "
                "in another partition than the present event's; emit an event with that key, and "
                "schedule from there"
            )

    async def _fetch(self, clock: Clock, until: int, limit: int) -> tuple[list[Timer], TimerState]:
        answer: tuple[list[Timer], TimerState] = await self._persist(
            lambda: self._store.due_timers(self._shard, clock, until, limit)
        )
        return answer

    def _merged(
        self, batch: DecodedBatch, timers: Sequence[Timer], at: Sequence[int]
    ) -> DecodedBatch:
        """Return a batch in which the timers' events stand before the items at these indexes."""
        merged = DecodedBatch(batch.records, batch.own)
        merged.bytes = batch.bytes
        merged.cells, merged.dead, merged.unknown = dict(batch.cells), batch.dead, batch.unknown
        merged.counters = dict(batch.counters)
        merged.has_async, merged.has_runs = batch.has_async, batch.has_runs
        before: dict[int, list[Timer]] = {}
        for timer, index in zip(timers, at, strict=True):
            before.setdefault(index, []).append(timer)
        for index in range(len(batch.items) + 1):
            here = before.get(index, ())
            last = index == len(batch.items)
            order = len(batch.records) if last else batch.items[index].order
            for count, timer in enumerate(here, start=1):
                self._add(merged, timer, order - 1 + count / (len(here) + 1))
            if not last:
                merged.items.append(batch.items[index])
        return merged

    def _add(self, batch: DecodedBatch, timer: Timer, order: float) -> None:
        item = Item(
            order,
            split_type(timer.type)[0],
            f"timer:{timer.name}:{timer.nonce}",
            timer.digest,
            datetime.fromtimestamp(timer.at / 1000, UTC).isoformat(timespec="milliseconds"),
            self._store.now_ms() / 1000,
            f"timer {timer.name}",
            timer.key,
            partition=self._partition,
            timer=timer,
        )
        target = self._routes.target(timer.processor, item.event_type, self._partition)
        try:
            if target is None:
                raise DecodeError(
                    "no-handler", f"{timer.processor} has no handler for {item.event_type} now"
                )
            item.calls.append(self._call(target, timer, batch.cells))
            item.counters = make_counters(item.calls, batch.counters, self._cache)
        except (DecodeError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            target = _refusing(timer, error)
            item.calls = []
            item.calls.append((target, None, None, {}))
        batch.items.append(item)
        batch.has_async = batch.has_async or target.handler.is_async
        batch.has_runs = batch.has_runs or target.handler.is_batch
        batch.has_timers = True

    def _call(self, target: Target, timer: Timer, cells: dict[str, StateCell]) -> Any:
        reading = self._routes.registry.reading(timer.type)
        if reading is None:
            raise DecodeError("unknown-type", f"no processor declares {timer.type!r}")
        event = reading.decoders[reading.classes.index(target.handler.event)](timer.data)
        if self._routes.partitions > 1 and self._is_elsewhere(target, event):
            raise DecodeError("cross-partition", f"{timer.name}: its key lies elsewhere now")
        return make_call(target, event, cells, self._cache)

    def _is_elsewhere(self, target: Target, event: Event) -> bool:
        texts = key_texts(target, event)
        return any(
            partition_of_key(text, self._routes.partitions) != self._partition for text in texts
        )


def places(due: Sequence[int], clocks: Sequence[int]) -> list[int]:
    """Return, for each timer, the index of the event that it is delivered before.

    Args:
        due: when the timers are due.
        clocks: the shard's event time at each event, which never falls; one that none of them
            reaches comes after the last.
    """
    return [bisect_left(clocks, at) for at in due]


def _clocks(items: Sequence[Item], start: int | None) -> list[int]:
    """Return the shard's event time in ms at each item, given that before the first.

    An event's time counts up to its arrival: one that a producer's clock puts into the future must
    not make everything due.
    """
    times = map(_time_of, items)
    if start is None:
        return list(accumulate(times, max))
    return list(accumulate(times, max, initial=start))[1:]


def _time_of(item: Item) -> int:
    time = item.arrival
    if item.time is not None:
        # Without a readable time the arrival counts; a handler that asks for the time fails.
        with contextlib.suppress(DecodeError):
            time = min(epoch_seconds(item.time), time)
    return int(time * 1000)


def _refusing(timer: Timer, error: Exception) -> Target:
    """Return a target that fails as if a handler had; the timer becomes a dead letter by it."""

    def refuse(event: Any, context: Any) -> None:
        raise error

    handler = Handler(
        name=f"{timer.processor}.timer",
        event=Event,
        call=refuse,
        is_async=False,
        is_batch=False,
        key=None,
        keys=None,
    )
    return Target(handler, 0, Policy(attempts=1), None, "")
