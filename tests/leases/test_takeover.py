"""Who takes over after a crash, a stop or a restart. "KCL row n" is a row of KCL's own tests."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streamproc.leases.lease import Lease
from streamproc.position import TRIM_HORIZON
from tests.leases.fleet import CONFIG, CRASH_TAKEOVER, LITTLE, Fleet, fleet_test, in_fleet


@pytest.mark.parametrize("seed", range(5))
def test_a_crashed_workers_leases_are_taken_within_a_duration_and_a_scan(seed: int) -> None:
    async def test(fleet: Fleet) -> None:
        await fleet.shards(6)
        dead, _, _ = fleet.start("a"), fleet.start("b"), fleet.start("c")
        await fleet.until(lambda: fleet.loads() == [2, 2, 2], 60)
        await asyncio.sleep(fleet.rng.uniform(0, 5))
        await dead.crash()
        took = await fleet.until(lambda: fleet.holders().total() == 6, 60)
        assert CONFIG.duration * 0.6 < took <= CRASH_TAKEOVER + LITTLE

    in_fleet(test, seed)


@pytest.mark.parametrize("seed", range(12))
def test_the_take_over_of_a_crash_does_not_wait_for_two_scans(seed: int) -> None:
    """A peer looks again when the lease expires, not when its interval is over."""

    async def test(fleet: Fleet) -> None:
        config = msgspec.structs.replace(CONFIG, scan_interval=8.0)
        await fleet.shards(1)
        owner, peer = fleet.start("a", config), fleet.start("b", config)
        await fleet.until(lambda: fleet.loads() == [0, 1], 20)
        if peer.epochs:
            owner = peer
        await asyncio.sleep(fleet.rng.uniform(0, 20))
        until = owner.leases.valid_until("shard-0")
        await fleet.until(lambda: owner.leases.valid_until("shard-0") != until, 5)
        await owner.crash()
        took = await fleet.until(lambda: fleet.loads() == [1], 60)
        assert took <= config.duration + config.scan_interval + LITTLE

    in_fleet(test, seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_stop_is_taken_over_within_one_scan(seed: int) -> None:
    async def test(fleet: Fleet) -> None:
        await fleet.shards(6)
        leaver, _ = fleet.start("a"), fleet.start("b")
        await fleet.until(lambda: fleet.loads() == [3, 3], 60)
        await leaver.stop()
        took = await fleet.until(lambda: fleet.loads() == [6], 60)
        assert took <= CONFIG.scan_interval

    in_fleet(test, seed)


@fleet_test
async def test_a_restart_under_the_same_id_resumes_at_once_with_higher_epochs(
    fleet: Fleet,
) -> None:
    await fleet.shards(4)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [4], 5)
    await worker.crash()
    fleet.start("a")  # `Fleet.acquired` checks the epochs.
    assert await fleet.until(lambda: fleet.loads() == [4], 5) < LITTLE


@fleet_test
async def test_a_hand_over_that_a_restart_interrupted_is_completed_at_once(
    fleet: Fleet,
) -> None:
    row = Lease(key="s", owner="b", checkpoint_owner="a", counter=3, checkpoint=TRIM_HORIZON)
    await fleet.table.create(row)
    fleet.start("a")
    await asyncio.sleep(LITTLE)
    assert (await fleet.rows())["s"].checkpoint_owner is None
    heir = fleet.start("b")
    await fleet.until(lambda: "s" in heir.epochs, LITTLE)
