"""Leases spread evenly over the workers, and then stay where they are."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streamproc.config import LeaseConfig
from tests.leases.fleet import CONFIG, Fleet, fleet_test, in_fleet


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("shards", [4, 17, 64])
def test_leases_spread_evenly_and_then_rest(workers: int, shards: int) -> None:
    async def test(fleet: Fleet) -> None:
        await fleet.shards(shards)
        for n in range(workers):
            fleet.start(f"w{n}")
        await settled(fleet, shards)

    in_fleet(test, seed=workers * shards)


@pytest.mark.parametrize("shards", [5, 64])
def test_workers_that_come_and_go_are_balanced_for(shards: int) -> None:
    async def test(fleet: Fleet) -> None:
        await fleet.shards(shards)
        for n in range(5):
            fleet.start(f"w{n}")
            await settled(fleet, shards)
        for _ in range(2):
            await fleet.workers[0].stop()
            await settled(fleet, shards)

    in_fleet(test, seed=shards)


async def settled(fleet: Fleet, shards: int) -> None:
    def even() -> bool:
        loads = fleet.loads()
        return sum(loads) == shards and loads[-1] - loads[0] <= 1

    def acquired() -> int:
        return sum(worker.leases.statistics().acquired for worker in fleet.workers)

    await fleet.until(even, 200)
    before = acquired()
    for _ in range(30):  # Nothing moves for a minute.
        await asyncio.sleep(2)
        assert even()
    assert acquired() == before
    assert max(fleet.holders().values()) == 1


@fleet_test
async def test_the_cap_is_kept_and_the_rest_left_for_others(fleet: Fleet) -> None:
    await fleet.shards(7)
    config = msgspec.structs.replace(CONFIG, max_leases=2)
    for name in "abc":
        fleet.start(name, config)
    await asyncio.sleep(100)
    assert fleet.loads() == [2, 2, 2]


def test_short_settings_work_too() -> None:
    async def test(fleet: Fleet) -> None:
        config = LeaseConfig(duration=0.5, scan_interval=0.1, checkpoint_interval=5.0)
        await fleet.shards(4)
        fleet.start("a", config)
        fleet.start("b", config)
        await fleet.until(lambda: fleet.loads() == [2, 2], 10)
        await asyncio.sleep(10)
        assert [worker.lost for worker in fleet.workers] == [[], []]

    in_fleet(test)
