"""What becomes of a shard that fails again and again when somebody else wants it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamproc.shard_pool import ShardPool
from tests import virtual_time
from tests.failing_pool import failing_pool
from tests.kinesis.fakes import SHARD


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
