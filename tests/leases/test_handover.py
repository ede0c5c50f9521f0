"""How a lease passes from a worker that works to one that asked for it."""

from __future__ import annotations

import asyncio

from streamproc.leases.lease import asked_to_hand_over
from streamproc.position import Position
from tests.leases.fleet import CONFIG, CRASH_TAKEOVER, LITTLE, Fleet, fleet_test


@fleet_test
async def test_the_owner_drains_and_checkpoints_before_the_asker_starts(fleet: Fleet) -> None:
    await fleet.shards(2)
    old = fleet.start("old")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    for key in old.epochs:
        old.leases.note_position(key, Position("42"), "inc")
    old.drain = 3.0
    new = fleet.start("new")
    await fleet.until(lambda: bool(old.asked), 5)
    [key] = old.asked
    assert old.leases.is_valid(key)
    drained = await fleet.until(lambda: key in new.epochs, 20)
    assert 3.0 <= drained <= 3.0 + CONFIG.scan_interval + LITTLE
    assert key not in old.epochs
    row = (await fleet.rows())[key]
    assert (row.checkpoint, row.incarnation) == (Position("42"), "inc")
    assert (old.lost, old.leases.statistics().handed_over) == ([], 1)


@fleet_test
async def test_an_owner_that_drains_long_keeps_its_lease_meanwhile(fleet: Fleet) -> None:
    """KCL row 10."""
    await fleet.shards(2)
    old = fleet.start("old")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    old.drain = CONFIG.duration * 2
    fleet.start("new")
    await fleet.until(lambda: bool(old.asked), 5)
    for _ in range(int(CONFIG.duration * 2) - 1):
        await asyncio.sleep(1)
        assert old.leases.is_valid(old.asked[0])
    await fleet.until(lambda: fleet.loads() == [1, 1], 5)
    assert old.lost == []


@fleet_test
async def test_an_owner_that_never_hands_over_is_forced_after_the_timeout(
    fleet: Fleet,
) -> None:
    await fleet.shards(2)
    old = fleet.start("old")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    old.drain = None
    new = fleet.start("new")
    await fleet.until(lambda: bool(old.asked), 5)
    took = await fleet.until(lambda: bool(new.epochs), 60)
    assert 29 <= took <= CONFIG.handover_timeout + CONFIG.scan_interval
    await fleet.until(lambda: old.lost == old.asked, CONFIG.duration / 3)
    assert new.leases.statistics().forced == 1


@fleet_test
async def test_a_stopping_asker_withdraws_and_the_owner_goes_on(fleet: Fleet) -> None:
    await fleet.shards(2)
    old = fleet.start("old")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    old.drain = None
    new = fleet.start("new")
    await fleet.until(lambda: bool(old.asked), 5)
    await new.stop()
    assert {(row.owner, row.checkpoint_owner) for row in (await fleet.rows()).values()} == {
        ("old", None)
    }
    await asyncio.sleep(60)
    assert old.lost == []


@fleet_test
async def test_requests_are_seen_when_they_are_made_by_others(fleet: Fleet) -> None:
    """A KCL 3.x leader, say, that moves the lease to a worker which does not exist here."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    row = (await fleet.rows())["shard-0"]
    assert await fleet.table.replace(row, asked_to_hand_over(row, "kcl"))
    await fleet.until(lambda: worker.asked == ["shard-0"], CONFIG.scan_interval)
    await fleet.until(lambda: fleet.loads() == [0], 2)
    row = (await fleet.rows())["shard-0"]
    assert (row.owner, row.checkpoint_owner) == ("kcl", None)
    await fleet.until(lambda: fleet.loads() == [1], CRASH_TAKEOVER + LITTLE)
