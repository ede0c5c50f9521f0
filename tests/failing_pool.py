"""A pool of one shard that Kinesis refuses."""

from __future__ import annotations

from typing import cast

from streamproc.config import ReadConfig
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.reader import ShardReader
from streamproc.leases.lease import Lease
from streamproc.leases.thread import CoordinatorThread
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.position import TRIM_HORIZON, Position
from streamproc.shard_pool import ShardPool
from streamproc.state.cache import CellCache
from streamproc.testing.memory_state import MemoryStateStore
from tests.kinesis.fakes import SHARD, FakeKinesis, VirtualTime


class Leases:
    """A coordinator that holds one lease."""

    def __init__(self) -> None:
        self.released: list[tuple[str, int | None]] = []

    def is_valid(self, key: str) -> bool:
        return True

    def note_position(self, key: str, position: Position, incarnation: str | None) -> None:
        pass

    async def release(
        self,
        key: str,
        position: Position | None = None,
        incarnation: str | None = None,
        epoch: int | None = None,
    ) -> bool:
        self.released.append((key, epoch))
        return True


def failing_pool() -> tuple[ShardPool, Leases]:
    """Return a pool whose shard Kinesis refuses, with its lease just acquired."""
    kinesis = FakeKinesis(VirtualTime())
    kinesis.exists = False
    store = MemoryStateStore()
    engine = Engine(
        group="g",
        stream="s",
        routes=Routes([], [store.keys]),
        stores=(store,),
        cache=CellCache(1_000),
        gate=KeyGate(),
    )

    def open_reader(lease: Lease, position: Position) -> ShardReader:
        return ShardReader(kinesis, lease.key, position, ByteBudget(1_000_000), ReadConfig())

    def fatal(error: BaseException) -> None:
        raise error

    pool = ShardPool(
        engine,
        open_reader,
        batch_records=10,
        advance_interval=1.0,
        on_state_loss="halt",
        on_fatal=fatal,
    )
    leases = Leases()
    pool.attach(cast(CoordinatorThread, leases))
    pool.lease_acquired(Lease(key=SHARD, owner="me", counter=7, checkpoint=TRIM_HORIZON))
    return pool, leases
