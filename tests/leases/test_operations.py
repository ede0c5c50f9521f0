"""What the engine asks of a coordinator. "KCL row n" is a row of KCL's own tests."""

from __future__ import annotations

import asyncio

from streamproc.config import LeaseConfig
from streamproc.leases.lease import Lease
from streamproc.position import TRIM_HORIZON, Position
from tests import virtual_time
from tests.leases.fleet import CONFIG, LITTLE, Fleet, fleet_test, single_lease_test


@fleet_test
async def test_checkpoints_follow_the_noted_positions(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    for n in range(1, 50):
        worker.leases.note_position("shard-0", Position(f"{n}"), "inc")
        await asyncio.sleep(0.1)
    writes = worker.leases.statistics().checkpoints
    assert 4 <= writes <= 5
    await asyncio.sleep(1.1)
    row = (await fleet.rows())["shard-0"]
    assert (row.checkpoint, row.incarnation) == (Position("49"), "inc")


@single_lease_test
async def test_a_checkpoint_counts_as_a_renewal(fleet: Fleet) -> None:
    """And a shard that does not move is written a third as often as a lease lasts."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    before = worker.wire.writes
    for n in range(30):
        worker.leases.note_position("shard-0", Position(f"{n}"), None)
        await asyncio.sleep(1)
    assert 28 <= worker.wire.writes - before <= 31
    before = worker.wire.writes
    await asyncio.sleep(30)
    assert 7 <= worker.wire.writes - before <= 10


@fleet_test
async def test_checkpoints_are_no_more_frequent_than_asked_for(fleet: Fleet) -> None:
    await fleet.shards(1)
    config = LeaseConfig(duration=12.0, checkpoint_interval=3.0)
    worker = fleet.start("a", config)
    await fleet.until(lambda: bool(worker.epochs), 5)
    before = worker.wire.writes
    for n in range(60):
        worker.leases.note_position("shard-0", Position(f"{n}"), None)
        await asyncio.sleep(0.5)
    assert 6 <= worker.wire.writes - before <= 10


@fleet_test
async def test_a_new_incarnation_is_written_even_at_the_same_position(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.leases.note_position("shard-0", TRIM_HORIZON, "inc")
    await asyncio.sleep(2)
    assert (await fleet.rows())["shard-0"].incarnation == "inc"


@fleet_test
async def test_notes_and_releases_of_an_earlier_ownership_are_refused(fleet: Fleet) -> None:
    """KCL row 22."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    old = worker.epochs["shard-0"]
    worker.pause = CONFIG.duration
    await fleet.until(lambda: worker.epochs.get("shard-0", 0) > old, 5)
    worker.leases.note_position("shard-0", Position("1"), None, old)
    assert not await worker.leases.release("shard-0", Position("1"), None, old)
    assert not await worker.leases.finish("shard-0", [], old)
    await asyncio.sleep(3)
    assert (await fleet.rows())["shard-0"].checkpoint == TRIM_HORIZON
    worker.leases.note_position("shard-0", Position("2"), None, worker.epochs["shard-0"])
    await asyncio.sleep(3)
    assert (await fleet.rows())["shard-0"].checkpoint == Position("2")


@fleet_test
async def test_a_failed_checkpoint_changes_nothing_in_memory(fleet: Fleet) -> None:
    """KCL row 23: the next attempt starts from the row as it is."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.wire.down = True
    worker.leases.note_position("shard-0", Position("5"), None)
    await asyncio.sleep(4)
    worker.wire.down = False
    await asyncio.sleep(2)
    assert (await fleet.rows())["shard-0"].checkpoint == Position("5")
    assert worker.lost == []


@fleet_test
async def test_release_takes_one_write(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    before = worker.wire.writes
    assert await worker.leases.release("shard-0", Position("8", 3), "inc")
    assert worker.wire.writes - before == 1
    row = (await fleet.rows())["shard-0"]
    assert (row.owner, row.checkpoint, row.incarnation) == (None, Position("8", 3), "inc")
    assert not await worker.leases.release("shard-0")


@fleet_test
async def test_children_exist_before_their_parent_is_finished(fleet: Fleet) -> None:
    """KCL row 36; and they are taken at once, not at the next scan."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    seen: list[tuple[str, list[str]]] = []
    passed = worker.wire.replace

    async def replace(old: Lease, new: Lease) -> Lease | None:
        if new.is_finished:
            seen.append((new.key, sorted(await fleet.rows())))
        return await passed(old, new)

    worker.wire.replace = replace  # type: ignore[method-assign]
    children = [Lease(key=key, checkpoint=TRIM_HORIZON, parents=("shard-0",)) for key in "xy"]
    assert await worker.leases.finish("shard-0", children)
    assert seen == [("shard-0", ["shard-0", "x", "y"])]
    await fleet.until(lambda: {"x", "y"} <= set(worker.epochs), LITTLE)
    assert not worker.leases.is_valid("shard-0")


@fleet_test
async def test_a_merge_child_starts_after_both_parents(fleet: Fleet) -> None:
    """KCL rows 34 and 37."""
    await fleet.shards(2)
    one, other = fleet.start("a"), fleet.start("b")
    await fleet.until(lambda: fleet.loads() == [1, 1], 60)
    [first], [second] = one.epochs, other.epochs
    child = Lease(key="child", checkpoint=TRIM_HORIZON, parents=(first, second))
    assert await one.leases.finish(first, [child])
    await asyncio.sleep(10)
    assert fleet.holders()["child"] == 0
    assert await other.leases.finish(second, [child])
    await fleet.until(lambda: fleet.holders()["child"] == 1, LITTLE)


@fleet_test
async def test_a_merge_child_is_left_to_the_parent_that_is_still_unknown(
    fleet: Fleet,
) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    child = Lease(key="child", checkpoint=TRIM_HORIZON, parents=("shard-0", "later"))
    assert await worker.leases.finish("shard-0", [child])
    assert set(await fleet.rows()) == {"shard-0"}
    assert (await fleet.rows())["shard-0"].children == ("child",)


@fleet_test
async def test_outrun_raises_the_epoch_past_another(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    lease = await worker.leases.outrun("shard-0", 1_000)
    assert lease is not None
    assert lease.counter > 1_000
    worker.leases.note_position("shard-0", Position("3"), None, lease.counter)
    await asyncio.sleep(2)
    assert (await fleet.rows())["shard-0"].checkpoint == Position("3")
    assert (await worker.leases.outrun("other", 1)) is None


@fleet_test
async def test_created_leases_are_taken_at_once(fleet: Fleet) -> None:
    worker = fleet.start("a")
    await asyncio.sleep(LITTLE)
    rows = [Lease(key=key, checkpoint=TRIM_HORIZON) for key in "abc"]
    assert await worker.leases.create(rows) == 3
    assert await worker.leases.create(rows) == 0
    await fleet.until(lambda: len(worker.epochs) == 3, LITTLE)
    assert await worker.leases.delete([rows[0]]) == 0
    assert {lease.key for lease in await worker.leases.leases()} == {"a", "b", "c"}


@fleet_test
async def test_the_snapshot_is_the_last_scans(fleet: Fleet) -> None:
    await fleet.shards(3)
    worker = fleet.start("a")
    assert worker.leases.snapshot() == ()
    await asyncio.sleep(CONFIG.scan_interval * 2)
    assert {lease.owner for lease in worker.leases.snapshot()} == {"a"}
    assert worker.leases.statistics().held == 3


@fleet_test
async def test_who_takes_no_more_keeps_what_it_has(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.leases.stop_taking()
    await fleet.table.create(Lease(key="new", checkpoint=TRIM_HORIZON))
    await asyncio.sleep(CONFIG.duration * 5)
    assert set(worker.epochs) == {"shard-0"}
    assert worker.leases.is_valid("shard-0")


@fleet_test
async def test_who_takes_no_more_asks_for_nothing(fleet: Fleet) -> None:
    await fleet.shards(4)
    big = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [4], 5)
    fleet.start("b").leases.stop_taking()
    await asyncio.sleep(20)
    assert big.asked == []


@fleet_test
async def test_stop_gives_up_what_the_engine_left(fleet: Fleet) -> None:
    await fleet.shards(3)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [3], 5)
    for key in worker.epochs:
        worker.leases.note_position(key, Position("6"), None)
    await worker.leases.stop()
    rows = (await fleet.rows()).values()
    assert {(row.owner, row.checkpoint) for row in rows} == {(None, Position("6"))}


@fleet_test
async def test_stop_ends_even_without_a_store(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    worker.wire.hangs = True
    began = virtual_time.now()
    await worker.leases.stop()
    assert virtual_time.now() - began <= CONFIG.duration * 1.5


@fleet_test
async def test_a_renewal_without_news_is_no_checkpoint(fleet: Fleet) -> None:
    await fleet.shards(3)
    worker = fleet.start("a")
    await asyncio.sleep(20)
    assert worker.leases.statistics().checkpoints == 0
    worker.leases.note_position("shard-1", Position("7"), None)
    await asyncio.sleep(5)
    assert worker.leases.statistics().checkpoints == 1
