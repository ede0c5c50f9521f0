"""A shard in a worker's hands: adopt it, read it, commit it batch by batch, let it go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Literal, Protocol

import msgspec

from streamproc.errors import Fenced
from streamproc.kinesis.errors import ReaderClosedError
from streamproc.kinesis.reader import Fetched, ReaderStatistics, ShardReader
from streamproc.kinesis.records import ChildShard
from streamproc.leases.lease import Lease
from streamproc.pipeline.patience import until_answered
from streamproc.pipeline.resume import resume_position
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.transaction import Engine, Moved, Transactor
from streamproc.position import Position
from streamproc.state.store import Adopted

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
        on_state_loss: what to do when Redis has lost the shard.
    """

    def __init__(
        self,
        engine: Engine,
        keeper: LeaseKeeper,
        lease: Lease,
        open_reader: Callable[[Position], ShardReader],
        *,
        batch_records: int,
        on_state_loss: Literal["halt", "replay", "continue"],
    ) -> None:
        self.lease = lease
        self.phase = ShardPhase.ADOPTING
        self._engine = engine
        self._keeper = keeper
        self._open_reader = open_reader
        self._batch_records = batch_records
        self._on_state_loss = on_state_loss
        self._stopping = asyncio.Event()
        self._reader: ShardReader | None = None
        self._transactor: Transactor | None = None
        self._incarnation: str | None = None

    @property
    def statistics(self) -> ShardStatistics:
        """The shard's counters."""
        return ShardStatistics() if self._transactor is None else self._transactor.statistics

    @property
    def reader_statistics(self) -> ReaderStatistics | None:
        """The reader's counters; None before the shard is adopted."""
        return None if self._reader is None else self._reader.statistics()

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
        start = await self._adopt()
        self._transactor = Transactor(self._engine, self.lease.key, self.lease.counter, start)
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

    async def _consume(self, reader: ShardReader, transactor: Transactor) -> Ended:
        while True:
            fetched = await self._next(reader)
            if fetched is None:
                return Ended(transactor.position, at_shard_end=False)
            try:
                whole = await self._process(fetched, transactor)
            except Moved as moved:
                await self._rewind(reader, transactor, moved)
                continue
            finally:
                reader.release(fetched)
            if whole and fetched.is_end:
                self.phase = ShardPhase.ENDED
                return Ended(transactor.position, True, tuple(fetched.child_shards))

    async def _next(self, reader: ShardReader) -> Fetched | None:
        """Return the next answer, or None when asked to stop before it is there."""
        try:
            return await reader.next()
        except ReaderClosedError:
            if not self._stopping.is_set():
                raise
            return None

    async def _process(self, fetched: Fetched, transactor: Transactor) -> bool:
        """Commit an answer batch by batch; False when stopped before all of it was."""
        records, size = fetched.records, self._batch_records
        for first in range(0, len(records), size):
            if self._stopping.is_set():
                return False
            if not self._keeper.is_valid(self.lease.key):
                raise Fenced(f"{self.lease.key}: the lease ran out", self.lease.counter)
            await transactor.process(records[first : first + size])
            self._keeper.note_position(self.lease.key, transactor.position, self._incarnation)
        return True

    async def _rewind(self, reader: ShardReader, transactor: Transactor, moved: Moved) -> None:
        """Go to where Redis is: behind us it has lost commits, ahead of us it has ours."""
        before = transactor.position
        self._engine.cache.clear()
        position = await self._adopt()
        transactor.position = position
        if position < before:
            transactor.statistics.rewinds += 1
            log.warning(
                "%s: Redis is behind (it has %s, we had committed %s); reading again from there",
                self.lease.key,
                moved.found,
                before,
            )
        await reader.rewind(position)

    async def _adopt(self) -> Position:
        """Make every older owner's commits fail, and find out where to begin.

        The lease store is the judge of who owns the shard. Where Redis has seen a higher epoch
        than our lease's counter although the lease is ours (the lease table was recreated), the
        counter is raised past it, which only the true owner can do.
        """
        while True:
            try:
                adopted = await self._adopt_at(None)
                position = resume_position(self.lease, adopted, self._on_state_loss)
                await self._adopt_at(position)
            except Fenced as fenced:
                raised = await self._keeper.outrun(self.lease.key, fenced.epoch)
                if raised is None:
                    raise
                self.lease = raised
            else:
                self._incarnation = adopted.incarnation
                return position

    async def _adopt_at(self, start: Position | None) -> Adopted:
        engine, lease = self._engine, self.lease
        field = f"{engine.stream}/{lease.key}"
        return await until_answered(
            lambda: engine.store.adopt(field, lease.counter, start), field, engine.sleep, engine.rng
        )
