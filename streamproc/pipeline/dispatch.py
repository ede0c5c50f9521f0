"""Calls handlers: in one tight loop while all goes well, one event at a time when one fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter

import msgspec

from streamproc.context import Context, Emission, Item
from streamproc.errors import DecodeError, Reject, Retry
from streamproc.pipeline.decode import Call, DecodedBatch
from streamproc.pipeline.lanes import lanes
from streamproc.pipeline.routes import Routes, Target
from streamproc.processor import Policy
from streamproc.state.cell import StateCell

__all__ = ["Dispatched", "Dispatcher", "Failure", "backoff_delay"]


class Failure(msgspec.Struct, frozen=True):
    """An event that its handlers could not process, after all attempts."""

    item: Item
    handler: str
    error: Exception
    attempts: int
    policy: Policy


class Dispatched(msgspec.Struct):
    """What handlers did.

    Attributes:
        items: the events that they processed.
        emissions: what they emitted, in the order of the causing events.
        failures: the events that failed.
        states: every state that was read, with its new value if it changed.
        retries: attempts after the first.
    """

    items: list[Item]
    emissions: list[Emission]
    failures: list[Failure]
    states: list[tuple[StateCell, bytes | None]]
    retries: int = 0


class _HandlerError(Exception):
    """A handler raised `error`, or was cancelled by something that it waited for."""

    def __init__(self, target: Target, error: BaseException) -> None:
        super().__init__(target.handler.name)
        self.target = target
        self.error = (
            error
            if isinstance(error, Exception)
            else RuntimeError(f"cancelled from within: {error!r}")
        )


class _UnstorableError(Exception):
    """Some handler left a state that cannot be written as JSON."""


class Dispatcher:
    """Runs the handlers of a shard's batches.

    The first pass has no bookkeeping per event. When a handler raises in it, everything it did is
    dropped and a careful pass starts: event by event, each undone and tried again on its own, so
    that a batch is run at most twice however many of its events fail.
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
    ) -> None:
        self._routes = routes
        self._names = (group, stream, shard_id)
        self._concurrency = concurrency
        self._sleep = sleep
        self._rng = rng

    async def run(self, batch: DecodedBatch, items: Sequence[Item]) -> Dispatched:
        """Hand `items` to their handlers; the batch's cells hold what they did to state."""
        emissions: list[Emission] = []
        try:
            if batch.has_async:
                await self._run_lanes(items, emissions)
            else:
                self._run_plain(items, emissions)
            # Lanes emit as they get there; what leaves is in the order of the causes.
            emissions.sort(key=attrgetter("order"))
            return Dispatched(list(items), emissions, [], _changes(batch))
        except (_HandlerError, _UnstorableError):
            for cell in batch.cells.values():
                cell.reset()
        return await self._run_carefully(batch, items)

    def _contexts(self, emissions: list[Emission]) -> list[Context[object]]:
        return [Context(p.name, *self._names, emissions) for p in self._routes.processors]

    def _run_plain(self, items: Sequence[Item], emissions: list[Emission]) -> None:
        contexts = self._contexts(emissions)
        for item in items:
            for call in item.calls:
                target, event, key, cells = call
                context = contexts[target.processor]
                context.begin(item, key, cells)
                try:
                    target.call(event, context)
                except (Exception, asyncio.CancelledError) as error:
                    raise _HandlerError(target, error) from error

    async def _run_lanes(self, items: Sequence[Item], emissions: list[Emission]) -> None:
        queue = iter(lanes([_lane_keys(item) for item in items]))
        failures: list[_HandlerError] = []

        async def work() -> None:
            contexts = self._contexts(emissions)
            for lane in queue:
                for index in lane:
                    item = items[index]
                    for call in item.calls:
                        if failures:
                            return  # everything done here is dropped: stop at the next event
                        try:
                            await _call(call, item, contexts[call[0].processor])
                        except _HandlerError as error:
                            failures.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(items))):
                group.create_task(work())
        if failures:
            raise failures[0]

    async def _run_carefully(self, batch: DecodedBatch, items: Sequence[Item]) -> Dispatched:
        done = Dispatched([], [], [], [])
        contexts = self._contexts(done.emissions)
        for item in items:
            failure = await self._attempt(item, contexts, done)
            if failure is None:
                done.items.append(item)
            else:
                done.failures.append(failure)
                if failure.policy.then == "halt":
                    break
        done.states = _changes(batch)
        return done

    async def _attempt(
        self, item: Item, contexts: list[Context[object]], done: Dispatched
    ) -> Failure | None:
        """Try one event until it succeeds or its policy gives up; undo what failed tries did."""
        cells = {id(cell): cell for call in item.calls for cell in call[3].values()}.values()
        before = [(cell, cell.snapshot()) for cell in cells]
        emitted = len(done.emissions)
        attempt = 1
        while True:
            try:
                for call in item.calls:
                    context = contexts[call[0].processor]
                    context.attempt = attempt
                    await _call(call, item, context)
                    _storable(call)
                return None
            except _HandlerError as failed:
                for cell, snapshot in before:
                    cell.restore(snapshot)
                del done.emissions[emitted:]
                target, error = failed.target, failed.error
            policy = target.policy
            if isinstance(error, (Reject, DecodeError)) or attempt >= policy.attempts:
                return Failure(item, target.handler.name, error, attempt, policy)
            done.retries += 1
            delay = backoff_delay(policy, attempt, self._rng)
            if isinstance(error, Retry) and error.after is not None:
                delay = error.after
            await self._sleep(delay)
            attempt += 1


def backoff_delay(policy: Policy, attempt: int, rng: random.Random) -> float:
    """Return seconds to wait after failed `attempt` (from 1): doubling, half of it random."""
    low, high = policy.backoff
    full = min(high, low * 2.0 ** min(attempt - 1, 60))
    return full * (0.5 + rng.random() / 2)


def _lane_keys(item: Item) -> list[object]:
    """Return what orders an event: its partition key, and every state that it touches."""
    keys: list[object] = [item.partition_key]
    for target, _, key, cells in item.calls:
        if key is not None:
            keys.append((target.processor, key))
        keys += [cell.key for cell in cells.values()]
    return keys


def _changes(batch: DecodedBatch) -> list[tuple[StateCell, bytes | None]]:
    try:
        return [(cell, cell.changed()) for cell in batch.cells.values() if cell.is_read]
    except Exception as error:
        raise _UnstorableError from error


def _storable(call: Call) -> None:
    """Make sure that what a handler did to its states can be written."""
    target, _, _, cells = call
    try:
        for cell in cells.values():
            cell.snapshot()
    except Exception as error:
        raise _HandlerError(target, error) from error


async def _call(call: Call, item: Item, context: Context[object]) -> None:
    target, event, key, cells = call
    context.begin(item, key, cells)
    cancelled_before = _cancel_requests()
    try:
        if target.handler.is_async:
            async with asyncio.timeout(target.policy.timeout):
                await target.call(event, context)
        else:
            target.call(event, context)
    except asyncio.CancelledError as error:
        if _cancel_requests() > cancelled_before:
            raise
        # Nobody cancelled us: something that the handler waited for was cancelled. Taken for our
        # own cancellation, it would end the lane and leave its other events unprocessed.
        raise _HandlerError(target, error) from error
    except Exception as error:
        raise _HandlerError(target, error) from error


def _cancel_requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
