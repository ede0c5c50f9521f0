"""What becomes of a shard that fails again and again when somebody else wants it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

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
from tests import virtual_time
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


async def seconds_until(pool: ShardPool) -> float:
    began = virtual_time.now()
    await asyncio.wait(list(pool._tasks.values()), timeout=60.0)
    return virtual_time.now() - began


@pytest.mark.parametrize("after", [0.0, 0.5, 5.0, 40.0])
def test_a_shard_that_fails_is_handed_over_at_once(after: float) -> None:
    async def main() -> Any:
        pool, leases = failing_pool()
        await asyncio.sleep(after)
        pool.handover_requested(SHARD)
        return await seconds_until(pool), leases.released

    took, released = virtual_time.run(main())
    assert took < 1.0
    assert released == [(SHARD, 7)]


@pytest.mark.parametrize("after", [0.5, 40.0])
def test_a_shard_that_fails_does_not_hold_up_a_stop(after: float) -> None:
    async def main() -> Any:
        pool, leases = failing_pool()
        await asyncio.sleep(after)
        began = virtual_time.now()
        await pool.drain(25.0)
        return virtual_time.now() - began, leases.released

    took, released = virtual_time.run(main())
    assert took < 1.0
    assert released == [(SHARD, 7)]
