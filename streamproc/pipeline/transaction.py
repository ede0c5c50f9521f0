"""A batch as a transaction in each partition of the group that its events belong to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil

from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import Chain, ChainStart, Unfinished
from streamproc.pipeline.decode import decode_batch, split_batch
from streamproc.pipeline.dispatch import Failure
from streamproc.pipeline.engine import Engine, ShardHalted
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.together import together
from streamproc.position import Position, least_position

__all__ = ["Transactor"]


class Transactor:
    """Commits the batches of one shard, in order.

    Each partition has a chain of its own. One that none of a batch's events belong to is left
    behind until `advance`; one that is ahead, because the worker before got further there than
    elsewhere, skips what it has committed.

    Args:
        engine: what the worker's shards share.
        shard_id: the shard.
        epoch: the lease's counter at acquisition.
        starts: where each partition is, and its timers.
    """

    def __init__(
        self, engine: Engine, shard_id: str, epoch: int, starts: Sequence[ChainStart]
    ) -> None:
        self.statistics = ShardStatistics()
        self._engine = engine
        self._shard_id = shard_id
        self._chains = [
            Chain(engine, partition, shard_id, epoch, start, self.statistics)
            for partition, start in enumerate(starts)
        ]
        self._reached = self.position
        # Most records of a batch, while other workers write what its handlers read.
        self._limit: int | None = None

    @property
    def position(self) -> Position:
        """The position that every partition has committed."""
        return least_position([chain.position for chain in self._chains])

    @property
    def is_uneven(self) -> bool:
        """Whether some partition is behind what the shard has been read to."""
        return len(self._chains) > 1 and self.position < self._reached

    @property
    def timers_pending(self) -> int:
        """How many timers the shard has."""
        return sum(chain.timers.pending for chain in self._chains)

    @property
    def waits_for_room(self) -> bool:
        """Whether some partition's outbox is full, and a commit waits for it."""
        return any(chain.waits_for_room for chain in self._chains)

    def timers_due_in(self) -> float | None:
        """Return seconds until a timer is due without further records; None without one."""
        waits = [chain.timers.due_in() for chain in self._chains]
        return min((wait for wait in waits if wait is not None), default=None)

    async def redrive(self, partition: int, key: str) -> bool:
        """Process the oldest records of a parked key; True when there may be more to do.

        Raises:
            Moved: Redis has another position for this shard; read again from what it has.
            Fenced: a newer owner has the shard.
        """
        return await self._chains[partition].redrive(key)

    def rewind(self, starts: Sequence[ChainStart]) -> None:
        """Go on from where the store says each partition is; records follow from the least."""
        for chain, start in zip(self._chains, starts, strict=True):
            chain.rewind(start)
        self._reached = self.position

    async def advance(self) -> None:
        """Bring every partition to where the shard has been read to.

        Raises:
            Moved: Redis has another position for this shard.
            Fenced: a newer owner has the shard.
        """
        reached = self._reached
        await together([c.advance(reached) for c in self._chains if c.position < reached])

    async def fire(self) -> None:
        """Handle the timers that are due now, up to a limit, where the shard is.

        Raises:
            Moved: Redis has another position for this shard; read again from what it has.
            Fenced: a newer owner has the shard; nothing more can be committed.
            ShardHalted: a timer's handler failed, and its policy is to halt.
        """
        due = [chain for chain in self._chains if chain.timers.due_in() == 0]
        failure = _worst(await together([chain.fire() for chain in due]))
        if isinstance(failure, Failure):
            raise self._halted(failure) from failure.error

    async def process(self, records: Sequence[Record]) -> None:
        """Process and commit `records`, which follow what was processed last.

        Raises:
            Moved: Redis has another position for this shard; read again from what it has.
            Fenced: a newer owner has the shard; nothing more can be committed.
            ShardHalted: a handler's policy is to halt; everything before that event is committed,
                and nothing after it in its partition.
        """
        at = 0
        while at < len(records):
            piece = self._piece(records[at:] if at else records)
            failure = await self._transact(piece)
            if failure == "contended":
                self._limit = max(1, len(piece) // 2)
                self.statistics.halvings += 1
                continue
            if failure is not None:
                await self.process(piece[: ceil(failure.item.order)])
                raise self._halted(failure) from failure.error
            at += len(piece)
            self._reached = piece[-1].position
            if self._limit is not None:
                self._limit = None if self._limit >= len(records) else self._limit * 2

    def _piece(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return how many of `records` make one batch: up to where a partition joins in."""
        if self._limit is not None:
            records = records[: self._limit]
        if len(self._chains) == 1:
            return records
        for chain in self._chains:
            if self._reached < chain.position < records[-1].position:
                passed = sum(record.position <= chain.position for record in records)
                records = records[:passed] if passed else records
        return records

    async def _transact(self, records: Sequence[Record]) -> Unfinished | None:
        """Commit `records` in every partition that has not; else return why one did not."""
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
        end = records[-1].position
        if len(self._chains) == 1:
            return await self._chains[0].run(batch, end, started)
        results = await together(
            [
                self._chains[partition].run(share, end, started)
                for partition, share in split_batch(batch, len(self._chains)).items()
                if self._chains[partition].position < end
            ]
        )
        return _worst(results)

    def _halted(self, failure: Failure) -> ShardHalted:
        return ShardHalted(
            f"{self._engine.stream}/{self._shard_id}: {failure.handler} failed "
            f"{failure.attempts} times on the event at {failure.item.sequence} "
            f"({type(failure.error).__name__}), and its policy is to halt; mend the processor or "
            "the event, then restart the worker"
        )


def _worst(results: Sequence[Unfinished | None]) -> Unfinished | None:
    """Return what the shard is to do about how its partitions' shares ended."""
    failures = [result for result in results if isinstance(result, Failure)]
    if failures:
        return min(failures, key=lambda failure: failure.item.order)
    return "contended" if "contended" in results else None
