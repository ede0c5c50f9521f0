"""Calls handlers: in one tight loop while all goes well, one event at a time when one fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from operator import attrgetter
from typing import Literal

import msgspec

from streamproc.context import Context, Effects, Emission, Item, Setting
from streamproc.errors import DecodeError, Reject, Retry
from streamproc.events.event import Event
from streamproc.pipeline.calls import Crew, HandlerError, Lane, call_plain
from streamproc.pipeline.decode import Call, DecodedBatch
from streamproc.pipeline.lanes import lanes
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.stages import Run, Stage, order_keys, stages
from streamproc.processor import Policy
from streamproc.state.cell import StateCell, Undoable
from streamproc.state.changes import Changes
from streamproc.state.counters import CounterCell

__all__ = ["Dispatched", "Dispatcher", "Failure", "backoff_delay"]


class Failure(msgspec.Struct, frozen=True):
    """An event that its handlers could not process, after all attempts."""

    item: Item
    handler: str
    error: Exception
    attempts: int
    policy: Policy

    @property
    def fate(self) -> Literal["dead-letter", "park", "halt"]:
        """What becomes of the event: its policy's word, unless the handler rejected it.

        A timer is no record of the stream: it is not parked.
        """
        then = self.policy.then
        if isinstance(self.error, Reject) or (then == "park" and self.item.timer is not None):
            return "dead-letter"
        return then


class Dispatched(msgspec.Struct):
    """What handlers did.

    Attributes:
        items: the events that they processed.
        emissions: what they emitted, in the order of the causing events.
        failures: the events that failed.
        behind: events that were not tried, because an earlier one of their partition key is to be
            parked.
        states: every state that was read, with its new value if it changed.
        settings: timers that they scheduled or cancelled, in the order of the causing events.
        counters: every counter that was changed, and how.
        retries: attempts after the first.
    """

    items: list[Item]
    emissions: list[Emission]
    failures: list[Failure]
    states: list[tuple[StateCell, bytes | None]]
    settings: list[Setting] = msgspec.field(default_factory=list)
    counters: list[tuple[CounterCell, Changes]] = msgspec.field(default_factory=list)
    behind: list[Item] = msgspec.field(default_factory=list)
    retries: int = 0


class _Contexts:
    """Makes the contexts of one try, and closes them all at its end."""

    def __init__(self, make: Callable[[str], Context[object]], names: Sequence[str]) -> None:
        self._make = make
        self._names = names
        self._made: list[Context[object]] = []

    def of_each(self) -> list[Context[object]]:
        """Return a context for each processor, to be pointed at one event after another."""
        return [self.of(processor) for processor in range(len(self._names))]

    def of(self, processor: int) -> Context[object]:
        """Return a context for one processor."""
        context = self._make(self._names[processor])
        self._made.append(context)
        return context

    def of_run(self, run: Run) -> list[Context[object]]:
        """Return a context for each event of a run; they live side by side."""
        given = []
        for item, (target, _, key, cells) in zip(run.items, run.calls, strict=True):
            context = self.of(target.processor)
            context.begin(item, key, cells)
            given.append(context)
        return given

    def close(self) -> None:
        """Close all of them: whoever kept one has no part in what follows."""
        for context in self._made:
            context.close()


class _UnstorableError(Exception):
    """Some handler left a state that cannot be written as JSON."""


class Dispatcher:
    """Runs the handlers of a shard's batches.

    The first pass has no bookkeeping per event. When a handler raises in it, everything it did is
    dropped and a careful pass starts, in which every try can be undone: event by event, so that a
    batch is run at most twice however many of its events fail; or, where batch handlers take part,
    by halving the run that failed until each failing event stands alone.
    """

    def __init__(
        self,
        routes: Routes,
        group: str,
        stream: str,
        shard_id: str,
        concurrency: int,
        sleep: Callable[[float], Awaitable[None]],
        rng: random.Random,
        wall_clock: Callable[[], float],
        ensure_deliverable: Callable[[str, Event], None],
    ) -> None:
        self._processors = [processor.name for processor in routes.processors]
        self._names = (group, stream, shard_id)
        self._concurrency = concurrency
        self._sleep = sleep
        self._rng = rng
        self._wall_clock = wall_clock
        self._ensure_deliverable = ensure_deliverable

    async def run(self, batch: DecodedBatch, items: Sequence[Item]) -> Dispatched:
        """Hand `items` to their handlers; the batch's cells hold what they did to state."""
        failed: HandlerError | None = None
        try:
            effects = await self._try(batch, items)
            states, counters = _changes(batch), _counted(batch)
            return Dispatched(
                list(items), effects.emissions, [], states, effects.settings, counters
            )
        except HandlerError as error:
            failed = error
        except _UnstorableError:
            pass
        batch.reset()
        return await self._run_carefully(batch, items, failed)

    async def _try(self, batch: DecodedBatch, items: Sequence[Item], attempt: int = 1) -> Effects:
        """Make all calls of `items`; return their effects, in the order of the causes.

        Raises:
            HandlerError: a handler failed; states are as it left them.
        """
        effects = Effects(self._ensure_deliverable)

        def make(processor: str) -> Context[object]:
            return Context(processor, *self._names, effects, attempt)

        contexts = _Contexts(make, self._processors)
        try:
            if not (batch.has_async or batch.has_runs):
                _one_by_one(zip(items, [item.calls for item in items], strict=True), contexts)
            else:
                for stage in stages(items, batch.has_runs):
                    if batch.has_async:
                        await self._side_by_side(stage, contexts)
                    else:
                        _one_by_one(stage.steps, contexts)
                        for run in stage.runs:
                            call_plain(run.target, run.items, run.events(), contexts.of_run(run))
        finally:
            contexts.close()
        # Lanes emit as they get there.
        effects.emissions.sort(key=attrgetter("order"))
        effects.settings.sort(key=attrgetter("order"))
        return effects

    async def _side_by_side(self, stage: Stage, contexts: _Contexts) -> None:
        if stage.steps:
            await self._run_lanes(stage.steps, contexts)
        if stage.runs:
            crew = Crew()
            for run in stage.runs:
                crew.start(partial(_run_call, run, contexts.of_run(run)))
            await crew.join()

    async def _run_lanes(
        self, steps: Sequence[tuple[Item, Sequence[Call]]], contexts: _Contexts
    ) -> None:
        queue = iter(lanes([order_keys(item, calls) for item, calls in steps]))
        crew = Crew()

        async def work(lane: Lane) -> None:
            mine = contexts.of_each()
            for indexes in queue:
                for index in indexes:
                    item, calls = steps[index]
                    for target, event, key, cells in calls:
                        if crew.failure is not None:
                            return  # everything done here is dropped: stop at the next event
                        context = mine[target.processor]
                        context.begin(item, key, cells)
                        await lane.call(target, (item,), event, context, (context,))

        for _ in range(min(self._concurrency, len(steps))):
            crew.start(work)
        await crew.join()

    async def _run_carefully(
        self, batch: DecodedBatch, items: Sequence[Item], failed: HandlerError | None
    ) -> Dispatched:
        """Find the events that fail; undo and settle each by its policy, and keep the others."""
        done = Dispatched([], [], [], [])
        # "Not now" from a run is about the call, not about one of its events: no reason to divide.
        patient = failed is not None and len(failed.items) > 1 and isinstance(failed.error, Retry)
        if not batch.has_runs:
            waiting = [[item] for item in reversed(items)]
        else:
            waiting = [list(items)] if patient else _divided(items, failed)
        parked: set[str] = set()
        while waiting:
            group = waiting.pop()
            if parked:
                done.behind += [item for item in group if item.is_behind(parked)]
                group = [item for item in group if not item.is_behind(parked)]
                if not group:
                    continue
            failed, attempts = await self._attempt(batch, group, done, patient)
            patient = False
            if failed is None:
                done.items += group
            elif len(group) > 1:
                waiting += _divided(group, failed)
            else:
                name, policy = failed.target.handler.name, failed.target.policy
                failure = Failure(group[0], name, failed.error, attempts, policy)
                done.failures.append(failure)
                if failure.fate == "halt":
                    break
                if failure.fate == "park":
                    parked.add(group[0].partition_key)
        done.states, done.counters = _changes(batch), _counted(batch)
        return done

    async def _attempt(
        self, batch: DecodedBatch, group: list[Item], done: Dispatched, patient: bool
    ) -> tuple[HandlerError | None, int]:
        """Try events together until they succeed or are given up; undo what failed tries did.

        One event is tried as often as its policy says. Several are tried once, since the next
        step is to divide them; with `patient`, again for as long as their handler asks for it.
        """
        before = [(each, each.snapshot()) for each in _undoables(group)]
        attempt = 1
        while True:
            try:
                effects = await self._try(batch, group, attempt)
                _storable(group)
            except HandlerError as error:
                failed = error
            else:
                done.emissions += effects.emissions
                done.settings += effects.settings
                return None, attempt
            for each, snapshot in before:
                each.restore(snapshot)
            if len(group) > 1 and not (patient and isinstance(failed.error, Retry)):
                return failed, attempt
            delay = self._next_delay(failed, attempt, min(item.arrival for item in group))
            if delay is None:
                return failed, attempt
            done.retries += 1
            await self._sleep(delay)
            attempt += 1

    def _next_delay(self, failed: HandlerError, attempt: int, arrival: float) -> float | None:
        """Return the seconds to wait before the next attempt; None when there is none."""
        policy, error = failed.target.policy, failed.error
        if isinstance(error, (Reject, DecodeError)) or attempt >= policy.attempts:
            return None
        delay = backoff_delay(policy, attempt, self._rng)
        if isinstance(error, Retry) and error.after is not None:
            delay = error.after
        if policy.max_age is not None and self._wall_clock() + delay > arrival + policy.max_age:
            return None
        return delay


def backoff_delay(policy: Policy, attempt: int, rng: random.Random) -> float:
    """Return seconds to wait after failed `attempt` (from 1): doubling, half of it random."""
    low, high = policy.backoff
    full = min(high, low * 2.0 ** min(attempt - 1, 60))
    return full * (0.5 + rng.random() / 2)


def _one_by_one(steps: Iterable[tuple[Item, Sequence[Call]]], contexts: _Contexts) -> None:
    mine = contexts.of_each()
    for item, calls in steps:
        for target, event, key, cells in calls:
            context = mine[target.processor]
            context.begin(item, key, cells)
            try:
                target.call(event, context)
            except (Exception, asyncio.CancelledError) as error:
                raise HandlerError(target, (item,), error) from error


async def _run_call(run: Run, contexts: list[Context[object]], lane: Lane) -> None:
    await lane.call(run.target, run.items, run.events(), contexts, contexts)


def _divided(items: Sequence[Item], failed: HandlerError | None) -> list[list[Item]]:
    """Split events so that what failed gets smaller; the first part last, to be popped first."""
    culprits = items if failed is None else failed.items
    at = items.index(culprits[len(culprits) // 2])
    cuts = [0, at, len(items)] if len(culprits) > 1 else [0, at, at + 1, len(items)]
    parts = [list(items[low:high]) for low, high in pairwise(cuts)]
    return [part for part in reversed(parts) if part]


def _changes(batch: DecodedBatch) -> list[tuple[StateCell, bytes | None]]:
    try:
        return [(cell, cell.changed()) for cell in batch.cells.values() if cell.is_read]
    except Exception as error:
        raise _UnstorableError from error


def _counted(batch: DecodedBatch) -> list[tuple[CounterCell, Changes]]:
    found = [(counter, counter.take_changes()) for counter in batch.counters.values()]
    return [(counter, changes) for counter, changes in found if changes is not None]


def _undoables(group: Sequence[Item]) -> list[Undoable]:
    """Return what the handlers of some events can change, each once."""
    found: dict[int, Undoable] = {}
    for item in group:
        for cells in (*[call[3] for call in item.calls], *item.counters.values()):
            found.update({id(cell): cell for cell in cells.values()})
    return list(found.values())


def _storable(group: Sequence[Item]) -> None:
    """Make sure that what handlers did to their states can be written."""
    for item in group:
        for target, _, _, cells in item.calls:
            try:
                for cell in cells.values():
                    cell.snapshot()
            except Exception as error:
                raise HandlerError(target, group, error) from error
