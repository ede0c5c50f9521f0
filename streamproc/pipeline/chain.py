"""One partition's commits for one shard: check, dispatch, commit, again where that says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from streamproc.context import Item
from streamproc.deadletter import DeadLetter, describe_failure
from streamproc.errors import DecodeError, Reject, StateStoreError, TooFewReplicas
from streamproc.events.envelope import encode_envelope, split_type
from streamproc.kinesis.records import Record
from streamproc.pipeline.decode import DecodedBatch
from streamproc.pipeline.dispatch import Dispatched, Dispatcher, Failure
from streamproc.pipeline.engine import Engine, Moved
from streamproc.pipeline.patience import until_answered
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.timers import ShardTimers
from streamproc.position import Position
from streamproc.state.store import Commit, CommitResult
from streamproc.state.timers import TimerState

__all__ = ["Chain", "ChainStart", "Unfinished"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# Reruns that a batch gets because of conflicts before it is cut in half.
_MOST_CONFLICTS: Final = 3
_CONFLICT_DELAY_S: Final = 0.05


Unfinished = Failure | Literal["contended"]
"""Why a batch was not committed: its handler halts the shard, or others write what it reads."""


class ChainStart(msgspec.Struct, frozen=True):
    """Where a partition of a shard is, and its timers, as its adoption told."""

    position: Position
    timers: TimerState = TimerState()


class Chain:
    """Commits one partition's share of a shard's batches, each from where the one before ended.

    Invariant: `position` is the last position that the store is known to hold for the shard in
    this partition.
    """

    def __init__(
        self,
        engine: Engine,
        partition: int,
        shard_id: str,
        epoch: int,
        start: ChainStart,
        statistics: ShardStatistics,
    ) -> None:
        self.position = start.position
        self._engine = engine
        self._store = engine.stores[partition]
        self._shard_id = shard_id
        self._field = f"{engine.stream}/{shard_id}"
        self._epoch = epoch
        self._statistics = statistics
        self.timers = ShardTimers(
            self._store,
            self._field,
            engine.routes,
            partition,
            engine.cache,
            start.timers,
            self._persist,
        )
        self._dispatcher = Dispatcher(
            engine.routes,
            engine.group,
            engine.stream,
            shard_id,
            engine.concurrency,
            engine.sleep,
            engine.rng,
            engine.wall_clock,
            self.timers.ensure_deliverable,
        )

    async def run(self, batch: DecodedBatch, end: Position, started: float) -> Unfinished | None:
        """Process and commit a batch that follows `position` and reaches `end`.

        Returns None once it is committed. Nothing is committed where a `Failure` is returned,
        which halts the shard, or ``contended``: others keep changing what this batch reads, and a
        smaller one is to be tried; a batch of a single event goes on trying.

        Args:
            batch: what belongs to this partition.
            end: the position that the batch reaches.
            started: `time.perf_counter` at the beginning of the batch, for statistics.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        batch = await self.timers.add_to(batch)
        async with self._engine.gate.hold(batch.cells.keys()):
            try:
                result = await self._run_until_committed(batch, end)
            except BaseException:
                # Cut off anywhere, handlers may have changed values that other shards share, and
                # nobody knows whether a commit was applied: forget all of it.
                self._drop(batch)
                raise
        if not isinstance(result, Dispatched):
            if result == "contended":
                self.timers.fewer()
            return result
        self._count(batch, result, started)
        return None

    def rewind(self, start: ChainStart) -> None:
        """Go on from where the store says the partition is."""
        self.position = start.position
        self.timers.note(start.timers)

    async def fire(self) -> Unfinished | None:
        """Handle timers that are due where the partition is; see `run`."""
        return await self.run(DecodedBatch([]), self.position, time.perf_counter())

    async def advance(self, end: Position) -> None:
        """Commit that nothing up to `end` belongs to this partition.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        if self.position != end:
            await self._commit(DecodedBatch([]), end, 0, Dispatched([], [], [], []))

    async def _run_until_committed(
        self, batch: DecodedBatch, end: Position
    ) -> Dispatched | Unfinished:
        conflicts = 0
        while True:
            bucket, items = await self._check(batch)
            result = await self._dispatch(batch, items)
            for failure in result.failures:
                if failure.policy.then == "halt":
                    self._drop(batch)
                    return failure
            outcome = await self._commit(batch, end, bucket, result)
            if outcome == "OK":
                return result
            self._statistics.reruns += 1
            batch.reset()
            if outcome == "CONFLICT":
                conflicts += 1
                if conflicts >= _MOST_CONFLICTS:
                    if len(batch.items) > 1:
                        self._drop(batch)
                        return "contended"
                    # Every conflict is somebody else's success; still, let them get ahead.
                    await self._engine.sleep(self._engine.rng.random() * _CONFLICT_DELAY_S)

    async def _dispatch(self, batch: DecodedBatch, items: Sequence[Item]) -> Dispatched:
        """Run the handlers, without timers that an earlier event of the batch changes."""
        while True:
            result = await self._dispatcher.run(batch, items)
            if not batch.has_timers or not result.settings:
                return result
            earlier = {setting.name: setting.order for setting in reversed(result.settings)}
            due = [
                item
                for item in items
                if item.timer is None or earlier.get(item.timer.name, item.order) >= item.order
            ]
            if len(due) == len(items):
                return result
            items = due
            batch.reset()

    async def _check(self, batch: DecodedBatch) -> tuple[int, list[Item]]:
        """Load the batch's states; return the dedupe bucket and the items not yet committed."""
        if not batch.items:
            return 0, []
        cells, counters = list(batch.cells.values()), list(batch.counters.values())
        digests = [item.digest for item in batch.items]
        started = time.perf_counter()
        bucket, committed = await self._persist(lambda: self._store.check(digests, cells, counters))
        self._statistics.check_seconds.observe(time.perf_counter() - started)
        if not committed:
            return bucket, batch.items
        return bucket, [item for at, item in enumerate(batch.items) if at not in committed]

    async def _commit(
        self, batch: DecodedBatch, end: Position, bucket: int, result: Dispatched
    ) -> Literal["OK", "DUPLICATE", "CONFLICT"]:
        """Commit; unless OK, nothing was written and the batch must run again.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        changes, event_clock = self.timers.changes(batch, result.settings)
        commit = Commit(
            shard=self._field,
            epoch=self._epoch,
            start=self.position,
            end=end,
            bucket=bucket,
            digests=[item.digest for item in result.items]
            + [failure.item.digest for failure in result.failures if failure.item.timer],
            cells=result.states,
            counters=result.counters,
            outbox=[emission.fields for emission in result.emissions],
            dead_letters=[letter.fields() for letter in batch.dead]
            + [self._dead_letter(failure, batch).fields() for failure in result.failures],
            timers=changes,
            event_clock=event_clock,
        )
        is_timed = bool(changes) or event_clock is not None
        errors_before = self._statistics.store_errors
        started = time.perf_counter()
        done = await self._persist(lambda: self._store.commit(commit))
        self._statistics.commit_seconds.observe(time.perf_counter() - started)
        repeated = self._statistics.store_errors > errors_before
        if repeated and _was_applied(commit, done):
            # The first try was applied and its answer lost; which versions it wrote is unknown.
            self._drop(batch)
            self.position = end
            if is_timed:
                self.timers.note(None)
            return "OK"
        if done.outcome == "MOVED":
            raise Moved(self._field, self.position, done.position)
        if done.outcome == "CONFLICT":
            self._statistics.conflicts += 1
        if done.outcome == "OK":
            self.position = end
            if is_timed:
                self.timers.note(done.timers)
            self._engine.cache.keep([cell for cell, _ in result.states])
            self._engine.cache.keep([counter.stored for counter in batch.counters.values()])
        return done.outcome

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        engine = self._engine
        return await until_answered(
            call, self._field, engine.sleep, engine.rng, self._count_store_error
        )

    def _count_store_error(self, error: StateStoreError) -> None:
        self._statistics.store_errors += 1
        self._statistics.replica_shortfalls += isinstance(error, TooFewReplicas)

    def _drop(self, batch: DecodedBatch) -> None:
        batch.reset()
        self._engine.cache.discard(batch.cells.values())
        self._engine.cache.discard([counter.stored for counter in batch.counters.values()])

    def _dead_letter(self, failure: Failure, batch: DecodedBatch) -> DeadLetter:
        text, trace = describe_failure(failure.error)
        error = failure.error
        return DeadLetter.of(
            self._record(failure.item, batch),
            self._engine.stream,
            self._shard_id,
            reason=error.reason if isinstance(error, (Reject, DecodeError)) else "handler-failed",
            error=text,
            traceback=trace,
            attempts=failure.attempts,
            event_type=failure.item.event_type,
            event_id=failure.item.event_id,
            handler=failure.handler,
        )

    def _record(self, item: Item, batch: DecodedBatch) -> Record:
        """Return the record of an event, or for a timer's one that would bring it again."""
        timer = item.timer
        if timer is None:
            return batch.records[int(item.order)]
        name, version = split_type(timer.type)
        data = encode_envelope(
            id=item.event_id,
            source=f"streamproc/{self._engine.group}/{timer.processor}",
            type=name,
            version=version or 1,
            time=item.time,
            data=timer.data,
        )
        return Record(item.sequence, item.arrival, data, timer.key)

    def _count_timers(self, result: Dispatched) -> tuple[int, int]:
        """Count the timers that fired; return how many succeeded and how many failed."""
        done = [item.timer for item in result.items if item.timer is not None]
        failed = [f.item.timer for f in result.failures if f.item.timer is not None]
        self._statistics.timers_fired += len(done) + len(failed)
        self._statistics.timers_failed += len(failed)
        now = self._store.now_ms()
        for timer in (*done, *failed):
            if timer.clock == "wall":
                self._statistics.timer_late_seconds.observe(max(0, now - timer.at) / 1000)
        return len(done), len(failed)

    def _count(self, batch: DecodedBatch, result: Dispatched, started: float) -> None:
        statistics, records = self._statistics, batch.own
        processed, failures = len(result.items), len(result.failures)
        if batch.has_timers:
            fired = self._count_timers(result)
            processed, failures = processed - fired[0], failures - fired[1]
        put_aside = len(batch.dead) + failures
        unknown = len(batch.unknown)
        statistics.batches += 1
        statistics.records += len(records)
        statistics.bytes += sum([len(record.data) for record in records])
        statistics.processed += processed
        statistics.unknown += unknown
        statistics.dead_letters += put_aside
        statistics.duplicates += len(records) - processed - unknown - put_aside
        statistics.retries += result.retries
        statistics.emitted += len(result.emissions)
        for emission in result.emissions:
            by_processor = statistics.emitted_by_processor
            by_processor[emission.processor] = by_processor.get(emission.processor, 0) + 1
        for failure in result.failures:
            processor = failure.handler.partition(".")[0]
            failed = statistics.failed_by_processor
            failed[processor] = failed.get(processor, 0) + 1
        if records:
            statistics.batch_records.observe(len(records))
        statistics.batch_seconds.observe(time.perf_counter() - started)
        statistics.end_to_end_seconds.observe_ages(
            self._engine.wall_clock(),
            [record.approximate_arrival_timestamp for record in records],
        )
        for letter in batch.dead:
            log.warning(
                "%s: record %s is no event (%s); put into the dead letters",
                self._field,
                letter.sequence,
                letter.reason,
            )
        for failure in result.failures:
            # The error's own text may quote the event: it goes to the dead letter, not to the log.
            log.warning(
                "%s: %s failed on the event at %s, %d attempts (%s); put into the dead letters",
                self._field,
                failure.handler,
                failure.item.sequence,
                failure.attempts,
                type(failure.error).__name__,
            )


def _was_applied(commit: Commit, repeated: CommitResult) -> bool:
    """Whether the answer to a repeated commit says that an earlier try was applied.

    One that moves the position is met by its own end. One that has only timers leaves the position
    as it is, and is met by its own marks.
    """
    if repeated.outcome == "MOVED":
        return repeated.position == commit.end
    return (
        repeated.outcome == "DUPLICATE"
        and commit.start == commit.end
        and len(repeated.refused) == len(commit.digests)
    )
