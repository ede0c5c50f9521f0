"""A shard in a worker's hands: adopt it, read it, commit it batch by batch, let it go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

import msgspec

from streamproc.errors import Fenced
from streamproc.kinesis.errors import ReaderClosedError
from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.reading import Reader, ReaderStatistics
from streamproc.kinesis.records import ChildShard, hash_key
from streamproc.leases.lease import Lease
from streamproc.pipeline.batches import BatchPace
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine, Moved
from streamproc.pipeline.patience import until_answered
from streamproc.pipeline.resume import Known, OnStateLoss, incarnation_of, resume_positions
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.together import together
from streamproc.pipeline.transaction import Transactor
from streamproc.position import Position
from streamproc.state.store import Adopted, StateStore

__all__ = ["Ended", "LeaseKeeper", "ShardConsumer", "ShardPhase"]

log = logging.getLogger(__name__)


class ShardPhase(Enum):
    """What a shard's consumer is doing."""

    ADOPTING = "adopting"
    PROCESSING = "processing"
    DRAINING = "draining"
    HALTED = "halted"
    ENDED = "ended"


class LeaseKeeper(Protocol):
    """What a consumer needs of the lease coordinator."""

    def is_valid(self, key: str) -> bool:
        """Whether this worker may still act for the shard, by its own clock."""
        ...

    def note_position(self, key: str, position: Position, incarnation: str | None) -> None:
        """Have the position checkpointed soon."""
        ...

    async def outrun(self, key: str, epoch: int) -> Lease | None:
        """Raise the lease's counter past `epoch`; None when the lease is not ours any more."""
        ...


class Ended(msgspec.Struct, frozen=True):
    """How a consumer's work came to its end: at the shard's end with its children, or stopped."""

    position: Position
    at_shard_end: bool
    children: tuple[ChildShard, ...] = ()


class ShardConsumer:
    """Processes one shard while its lease is held.

    Args:
        engine: what the worker's shards share.
        keeper: the lease coordinator.
        lease: the lease as it was acquired.
        open_reader: makes the shard's reader, to begin at a position.
        batch_records: most records in a batch.
        advance_interval: seconds after which partitions that none of the shard's events belonged
            to lately are brought to its position.
        on_state_loss: what to do when Redis has lost the shard.
        incarnation: id of the Redis that this worker has met before, if it has.
    """

    def __init__(
        self,
        engine: Engine,
        keeper: LeaseKeeper,
        lease: Lease,
        open_reader: Callable[[Position], Reader],
        *,
        batch_records: int,
        advance_interval: float,
        on_state_loss: OnStateLoss,
        incarnation: str | None = None,
    ) -> None:
        self.lease = lease
        self.phase = ShardPhase.ADOPTING
        self._engine = engine
        self._keeper = keeper
        self._open_reader = open_reader
        self._batch_records = batch_records
        self._advance_interval = advance_interval
        self._on_state_loss = on_state_loss
        self._clock = asyncio.get_running_loop().time
        self._advance_at = 0.0
        self._pace = BatchPace()
        self._stopping = asyncio.Event()
        self._reader: Reader | None = None
        self._transactor: Transactor | None = None
        self._met = incarnation
        self._incarnation: str | None = None
        # Parked keys to be redriven, by partition; a dict for its order.
        self._wanted: dict[tuple[int, str], None] = {}
        self._nap: asyncio.Timeout | None = None

    @property
    def statistics(self) -> ShardStatistics:
        """The shard's counters."""
        return ShardStatistics() if self._transactor is None else self._transactor.statistics

    @property
    def reader_statistics(self) -> ReaderStatistics | None:
        """The reader's counters; None before the shard is adopted."""
        return None if self._reader is None else self._reader.statistics()

    @property
    def timers_pending(self) -> int:
        """How many timers the shard has."""
        return 0 if self._transactor is None else self._transactor.timers_pending

    @property
    def position(self) -> Position:
        """The last committed position."""
        return self.lease.checkpoint if self._transactor is None else self._transactor.position

    @property
    def incarnation(self) -> str | None:
        """The id of the Redis that holds this shard's state; None before the shard is adopted."""
        return self._incarnation

    def stop(self) -> None:
        """Have `run` return after the batch in hand is committed."""
        if self.phase is ShardPhase.PROCESSING:
            self.phase = ShardPhase.DRAINING
        self._stopping.set()
        if self._reader is not None:
            self._reader.close()

    @property
    def waits_for_room(self) -> bool:
        """Whether a commit waits until the outbox is below its limit."""
        return self._transactor is not None and self._transactor.waits_for_room

    def covers(self, partition_key: str) -> bool:
        """Whether records of a partition key belong to this shard, or to one it came from."""
        hashes = self.lease.hash_range
        return hashes is None or (
            int(hashes.starting_hash_key) <= hash_key(partition_key) <= int(hashes.ending_hash_key)
        )

    def redrive(self, partition: int, partition_key: str) -> None:
        """Have what is parked under a key processed, in bounded steps between the batches."""
        self._wanted[partition, partition_key] = None
        if self._nap is not None:
            self._nap.reschedule(self._clock())

    async def stay_halted(self) -> Ended:
        """Hold the lease of a shard whose policy was to halt, until told to stop."""
        self.phase = ShardPhase.HALTED
        await self._stopping.wait()
        return Ended(self.position, at_shard_end=False)

    async def run(self) -> Ended:
        """Process the shard until its end or until `stop`.

        Raises:
            Fenced: a newer owner has adopted the shard; nothing of ours can be written any more.
            ShardHalted: a handler's policy is to stop here.
            StateLost: Redis has lost the shard, and the setting is to halt.
            StreamError: Kinesis refuses for good.
        """
        starts = await self._adopt()
        transactor = Transactor(self._engine, self.lease.key, self.lease.counter, starts)
        self._transactor = transactor
        start = transactor.position
        if self._stopping.is_set():
            return Ended(start, at_shard_end=False)
        self._reader = self._open_reader(start)
        self.phase = ShardPhase.PROCESSING
        reading = asyncio.create_task(self._reader.run(), name=f"read {self.lease.key}")
        try:
            return await self._consume(self._reader, self._transactor)
        finally:
            self._reader.close()
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()

    async def _consume(self, reader: Reader, transactor: Transactor) -> Ended:
        while True:
            try:
                ended = await self._step(reader, transactor)
            except Moved as moved:
                await self._rewind(reader, transactor, moved)
                continue
            if ended is not None:
                return ended

    async def _step(self, reader: Reader, transactor: Transactor) -> Ended | None:
        """Wait for what comes next and deal with it; say so when it was the last."""
        await self._redrive_some(transactor)
        try:
            async with asyncio.timeout_at(self._wake_at(transactor)) as self._nap:
                fetched = await reader.next()
        except TimeoutError:
            await self._fire(transactor)
            if self._clock() >= self._advance_at:
                await self._advance(transactor)
            return None
        except ReaderClosedError:
            if not self._stopping.is_set():
                raise
            await self._advance(transactor)
            return Ended(transactor.position, at_shard_end=False)
        finally:
            self._nap = None
        try:
            whole = await self._process(fetched, transactor)
        finally:
            reader.release(fetched)
        if not (whole and fetched.is_end):
            return None
        await self._advance(transactor)
        self.phase = ShardPhase.ENDED
        return Ended(transactor.position, True, tuple(fetched.child_shards))

    def _wake_at(self, transactor: Transactor) -> float | None:
        """Return until when, on the loop's clock, to wait for records; None for ever."""
        if self._wanted:
            return self._clock()
        due_in = transactor.timers_due_in()
        times = [] if due_in is None else [self._clock() + due_in]
        if transactor.is_uneven:
            times.append(self._advance_at)
        return min(times, default=None)

    async def _fire(self, transactor: Transactor) -> None:
        """Handle timers that are due."""
        if transactor.timers_due_in() == 0:
            self._ensure_lease()
            await transactor.fire()

    async def _redrive_some(self, transactor: Transactor) -> None:
        """Take the next step with one of the parked keys that are wanted."""
        if not self._wanted or self._stopping.is_set():
            return
        partition, key = wanted = next(iter(self._wanted))
        self._ensure_lease()
        more = await transactor.redrive(partition, key)
        del self._wanted[wanted]
        if more:
            self._wanted[wanted] = None  # behind the other keys

    async def _advance(self, transactor: Transactor) -> None:
        """Bring all partitions to one position."""
        if transactor.is_uneven:
            self._ensure_lease()
            await transactor.advance()
            self._keeper.note_position(self.lease.key, transactor.position, self._incarnation)

    def _ensure_lease(self) -> None:
        if not self._keeper.is_valid(self.lease.key):
            raise Fenced(f"{self.lease.key}: the lease ran out", self.lease.counter)

    async def _process(self, fetched: Fetched, transactor: Transactor) -> bool:
        """Commit an answer batch by batch; False when stopped before all of it was."""
        records, first = fetched.records, 0
        while first < len(records):
            if self._stopping.is_set():
                return False
            self._ensure_lease()
            began = self._clock()
            if not transactor.is_uneven:
                self._advance_at = began + self._advance_interval
            lag = fetched.millis_behind_latest / 1_000 + began - fetched.fetched_at
            batch = records[first : first + self._pace.size(self._batch_records, lag)]
            await transactor.process(batch)
            self._pace = self._pace.after(len(batch), self._clock() - began)
            first += len(batch)
            await self._fire(transactor)
            if transactor.is_uneven and self._clock() >= self._advance_at:
                await transactor.advance()
            self._keeper.note_position(self.lease.key, transactor.position, self._incarnation)
        return True

    async def _rewind(self, reader: Reader, transactor: Transactor, moved: Moved) -> None:
        """Go to where Redis is: behind us it has lost commits, ahead of us it has ours."""
        # Whoever lost the lease meanwhile must not put a position back that was taken away.
        self._ensure_lease()
        before = transactor.position
        self._engine.cache.clear()
        transactor.rewind(await self._adopt())
        position = transactor.position
        if position < before:
            transactor.statistics.rewinds += 1
            log.warning(
                "%s: Redis is behind (it has %s, we had committed %s); reading again from there",
                self.lease.key,
                moved.found,
                before,
            )
        await reader.rewind(position)

    async def _adopt(self) -> list[ChainStart]:
        """Make every older owner's commits fail, and find out where each partition begins.

        The lease store is the judge of who owns the shard. Where Redis has seen a higher epoch
        than our lease's counter although the lease is ours (the lease table was recreated), the
        counter is raised past it, which only the true owner can do.
        """
        while True:
            try:
                stores = self._engine.stores
                adopted = await together([self._adopt_in(store, None) for store in stores])
                positions = resume_positions(self._known(), adopted, self._on_state_loss)
                await together([self._inherit_timers(store) for store in stores])
                begun = await together(
                    [
                        # A position that Redis has is not written: were it lost since, that would
                        # claim its state as well.
                        self._adopt_in(store, position if found.position is None else None)
                        for store, found, position in zip(stores, adopted, positions, strict=True)
                    ]
                )
            except Fenced as fenced:
                raised = await self._keeper.outrun(self.lease.key, fenced.epoch)
                if raised is None:
                    raise
                self.lease = raised
            else:
                ids = [each.incarnation for each in adopted]
                if [each.position for each in begun] != positions or [
                    each.incarnation for each in begun
                ] != ids:
                    log.warning("%s: Redis changed while the shard was adopted", self.lease.key)
                    continue
                self._incarnation = incarnation_of(ids)
                return [
                    ChainStart(position, each.timers)
                    for position, each in zip(positions, begun, strict=True)
                ]

    def _known(self) -> Known:
        lease = self.lease
        if self._transactor is None or self._incarnation is None:
            return Known(lease.key, lease.checkpoint, lease.incarnation, self._met)
        return Known(lease.key, self._transactor.position, self._incarnation)

    async def _adopt_in(self, store: StateStore, start: Position | None) -> Adopted:
        engine, lease = self._engine, self.lease
        field = f"{engine.stream}/{lease.key}"
        return await until_answered(
            lambda: store.adopt(field, lease.counter, start), field, engine.sleep, engine.rng
        )

    async def _inherit_timers(self, store: StateStore) -> None:
        """Take over the timers of the shard's parents, which are finished.

        A child takes those whose partition keys it covers. Where a lease does not know its range,
        the first child takes all of them: they fire once, but perhaps in its sibling's stead.
        """
        engine, lease, hash_range = self._engine, self.lease, self.lease.hash_range
        low, high = "0" * 32, "f" * 32
        if hash_range is not None:
            low = f"{int(hash_range.starting_hash_key):032x}"
            high = f"{int(hash_range.ending_hash_key):032x}"
        field = f"{engine.stream}/{lease.key}"
        for parent in lease.parents:
            inherit = partial(store.inherit_timers, f"{engine.stream}/{parent}", field, low, high)
            moved = await until_answered(inherit, field, engine.sleep, engine.rng)
            if moved:
                log.info("%s: took over %d timers of %s", lease.key, moved, parent)
