"""A worker that does what a KCL worker does and no more, to be compared with it like with like.

Leases, heartbeats, checkpoints, reading, KPL aggregates, the typed decoding of envelope and event
and the handler's call are the engine's own. What KCL does not offer is left out: no duplicates are
removed, handlers have no context, and nothing is committed to Redis batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import msgspec

import streamproc.pipeline.shard
from streamproc.events.envelope import read_envelope
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.transaction import Transactor
from streamproc.position import Position, least_position

__all__ = ["LeasedTransactor", "leased_transactions"]


class LeasedTransactor(Transactor):
    """Decodes and calls; where it is, only the lease's checkpoint tells."""

    def __init__(
        self, engine: Engine, shard_id: str, epoch: int, starts: Sequence[ChainStart]
    ) -> None:
        self._done = least_position([start.position for start in starts])
        self._plans = engine.routes.plans
        super().__init__(engine, shard_id, epoch, starts)

    @property
    def position(self) -> Position:
        """Where the last batch ended."""
        return self._done

    async def process(self, records: Sequence[Record]) -> None:
        """Decode each record into its event and call the handlers with it."""
        plans = self._plans
        for record in records:
            try:
                envelope = plans.decode(record.data)
            except msgspec.MsgspecError:
                # A type that was not met yet; the plans know it from now on.
                plans.meet(read_envelope(record.data).type)
                envelope = plans.decode(record.data)
            plan, is_direct = plans.of[type(envelope)]
            assert plan is not None, "the stream holds BenchmarkEvents only"
            assert is_direct, "and all in the version that is declared"
            for target in plan.targets:
                target.call(envelope.data, None)
        self._done = records[-1].position
        self.statistics.batches += 1
        self.statistics.records += len(records)
        self.statistics.processed += len(records)


@contextmanager
def leased_transactions(on: bool) -> Iterator[None]:
    """Have shards process their batches without transactions while the context lasts, if `on`."""
    if not on:
        yield
        return
    with patch.object(streamproc.pipeline.shard, "Transactor", LeasedTransactor):
        yield
