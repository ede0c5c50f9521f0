"""A batch as one transaction: check, dispatch, commit, again where the commit says so."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from streamproc.context import Item
from streamproc.errors import DecodeError, Reject, StreamprocError
from streamproc.kinesis.records import Record
from streamproc.pipeline.deadletter import DeadLetter, describe_failure
from streamproc.pipeline.decode import DecodedBatch, decode_batch
from streamproc.pipeline.dispatch import Dispatched, Dispatcher, Failure
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.patience import until_answered
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.position import Position
from streamproc.state.cache import CellCache
from streamproc.state.store import Commit, StateStore

__all__ = ["Engine", "Moved", "ShardHalted", "Transactor"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Engine(msgspec.Struct, frozen=True):
    """What all shards of a worker share.

    Attributes:
        group: consumer group.
        stream: stream name.
        routes: processors and their handlers.
        store: the state store.
        cache: cells between batches.
        gate: keeps batches on one key apart.
        concurrency: keys that async handlers of a batch work on side by side.
        dead_letter_unknown: whether events of undeclared types are put aside, not skipped.
        sleep: waits; virtual in tests.
        rng: jitter; seeded in tests.
        wall_clock: seconds since the epoch.
    """

    group: str
    stream: str
    routes: Routes
    store: StateStore
    cache: CellCache
    gate: KeyGate
    concurrency: int = 32
    dead_letter_unknown: bool = False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = msgspec.field(default_factory=random.Random)
    wall_clock: Callable[[], float] = time.time


class Moved(StreamprocError):
    """The shard's committed position is not the one that this batch starts from."""

    def __init__(self, shard: str, expected: Position, found: Position | None) -> None:
        super().__init__(f"{shard}: batch starts from {expected}, Redis has {found}")
        self.found = found


class ShardHalted(StreamprocError):
    """A handler failed for good and its policy is to stop the shard there."""


class Transactor:
    """Commits the batches of one shard, in order, each from where the one before it ended.

    Invariant: `position` is the last position that the store is known to hold for the shard.
    """

    def __init__(self, engine: Engine, shard_id: str, epoch: int, position: Position) -> None:
        self.position = position
        self.statistics = ShardStatistics()
        self._engine = engine
        self._shard_id = shard_id
        self._field = f"{engine.stream}/{shard_id}"
        self._epoch = epoch
        self._dispatcher = Dispatcher(
            engine.routes,
            engine.group,
            engine.stream,
            shard_id,
            engine.concurrency,
            engine.sleep,
            engine.rng,
            engine.wall_clock,
        )

    async def process(self, records: Sequence[Record]) -> None:
        """Process and commit `records`, which follow `position`.

        Raises:
            Moved: Redis has another position for this shard; nothing was committed.
            Fenced: a newer owner has the shard; nothing was committed.
            ShardHalted: a handler's policy is to halt; everything before that event is committed.
        """
        halted = await self._process(records)
        if halted is None:
            return
        if halted.item.order > 0:
            await self._process(records[: halted.item.order])
        raise ShardHalted(
            f"{self._field}: {halted.handler} failed {halted.attempts} times on the event at "
            f"{halted.item.sequence} ({type(halted.error).__name__}), and its policy is to halt; "
            "mend the processor or the event, then restart the worker"
        ) from halted.error

    async def _process(self, records: Sequence[Record]) -> Failure | None:
        """Commit `records`; or commit nothing and return the failure that halts the shard."""
        engine = self._engine
        started = time.perf_counter()
        batch = decode_batch(
            records,
            engine.routes,
            engine.cache,
            stream=engine.stream,
            shard=self._shard_id,
            dead_letter_unknown=engine.dead_letter_unknown,
        )
        async with engine.gate.hold(batch.cells.keys()):
            try:
                result = await self._run_until_committed(batch, records)
            except BaseException:
                # Cut off anywhere, handlers may have changed values that other shards share, and
                # nobody knows whether a commit was applied: forget all of it.
                self._drop(batch)
                raise
        if isinstance(result, Failure):
            return result
        self._count(batch, records, result, started)
        return None

    async def _run_until_committed(
        self, batch: DecodedBatch, records: Sequence[Record]
    ) -> Dispatched | Failure:
        while True:
            bucket, items = await self._check(batch)
            result = await self._dispatcher.run(batch, items)
            for failure in result.failures:
                if failure.policy.then == "halt":
                    self._drop(batch)
                    return failure
            if await self._commit(batch, records, bucket, result):
                return result
            self.statistics.reruns += 1
            for cell in batch.cells.values():
                cell.reset()

    async def _check(self, batch: DecodedBatch) -> tuple[int, list[Item]]:
        """Load the batch's states; return the dedupe bucket and the items not yet committed."""
        if not batch.items:
            return 0, []
        cells = list(batch.cells.values())
        digests = [item.digest for item in batch.items]
        started = time.perf_counter()
        bucket, committed = await self._persist(lambda: self._engine.store.check(digests, cells))
        self.statistics.check_seconds.observe(time.perf_counter() - started)
        if not committed:
            return bucket, batch.items
        return bucket, [item for at, item in enumerate(batch.items) if at not in committed]

    async def _commit(
        self, batch: DecodedBatch, records: Sequence[Record], bucket: int, result: Dispatched
    ) -> bool:
        """Commit; False when the batch must run again.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        engine = self._engine
        commit = Commit(
            shard=self._field,
            epoch=self._epoch,
            start=self.position,
            end=records[-1].position,
            bucket=bucket,
            digests=[item.digest for item in result.items],
            cells=result.states,
            outbox=[emission.fields for emission in result.emissions],
            dead_letters=[letter.fields() for letter in batch.dead]
            + [self._dead_letter(f, records).fields() for f in result.failures],
        )
        errors_before = self.statistics.store_errors
        started = time.perf_counter()
        done = await self._persist(lambda: engine.store.commit(commit))
        self.statistics.commit_seconds.observe(time.perf_counter() - started)
        repeated = self.statistics.store_errors > errors_before
        if repeated and done.outcome == "MOVED" and done.position == commit.end:
            # The first try was applied and its answer lost; which versions it wrote is unknown.
            self._drop(batch)
            self.position = commit.end
            return True
        if done.outcome == "MOVED":
            raise Moved(self._field, self.position, done.position)
        if done.outcome == "CONFLICT":
            self.statistics.conflicts += 1
        if done.outcome != "OK":
            return False
        self.position = commit.end
        engine.cache.keep([cell for cell, _ in result.states])
        return True

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        engine = self._engine
        return await until_answered(
            call, self._field, engine.sleep, engine.rng, self._count_store_error
        )

    def _count_store_error(self) -> None:
        self.statistics.store_errors += 1

    def _drop(self, batch: DecodedBatch) -> None:
        for cell in batch.cells.values():
            cell.reset()
        self._engine.cache.discard(batch.cells.values())

    def _dead_letter(self, failure: Failure, records: Sequence[Record]) -> DeadLetter:
        text, trace = describe_failure(failure.error)
        error = failure.error
        return DeadLetter.of(
            records[failure.item.order],
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

    def _count(
        self, batch: DecodedBatch, records: Sequence[Record], result: Dispatched, started: float
    ) -> None:
        statistics = self.statistics
        put_aside = len(batch.dead) + len(result.failures)
        statistics.batches += 1
        statistics.records += len(records)
        statistics.bytes += sum([len(record.data) for record in records])
        statistics.processed += len(result.items)
        statistics.unknown += batch.unknown
        statistics.dead_letters += put_aside
        statistics.duplicates += len(records) - len(result.items) - batch.unknown - put_aside
        statistics.retries += result.retries
        statistics.emitted += len(result.emissions)
        for emission in result.emissions:
            by_processor = statistics.emitted_by_processor
            by_processor[emission.processor] = by_processor.get(emission.processor, 0) + 1
        for failure in result.failures:
            processor = failure.handler.partition(".")[0]
            failed = statistics.failed_by_processor
            failed[processor] = failed.get(processor, 0) + 1
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
