"""When a worker may no longer believe that it holds a lease."""

from __future__ import annotations

import asyncio
from random import Random

from streamproc.leases.keeper import LeaseKeeper
from streamproc.leases.lease import Lease, checkpointed, released, taken
from streamproc.leases.statistics import Tally
from streamproc.leases.watched_store import WatchedStore
from streamproc.position import TRIM_HORIZON, Position
from streamproc_checkpoints.memory import MemoryLeaseStore
from tests import virtual_time
from tests.leases.fleet import CONFIG, LITTLE, Fleet, fleet_test, single_lease_test


@fleet_test
async def test_a_worker_that_was_paused_fences_itself_and_starts_anew(fleet: Fleet) -> None:
    """KCL row 21. `Fleet.acquired` checks that the epoch is a new one."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    assert worker.leases.is_valid("shard-0")
    worker.pause = CONFIG.duration
    assert not worker.leases.is_valid("shard-0")
    await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.duration / 20 + LITTLE)
    await fleet.until(lambda: bool(worker.epochs), CONFIG.scan_interval)
    assert worker.leases.statistics().fenced == 1


@fleet_test
async def test_a_fenced_lease_is_never_written_again_under_the_old_epoch(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    worker.leases.stop_taking()
    worker.pause = CONFIG.duration
    before = await fleet.rows()
    assert not await worker.leases.release("shard-0", Position("9"))
    assert await worker.leases.outrun("shard-0", 99) is None
    assert not await worker.leases.finish("shard-0", [])
    assert await fleet.rows() == before


@fleet_test
async def test_validity_is_counted_from_when_a_write_was_sent(fleet: Fleet) -> None:
    """However late the answer comes: the store may have applied it at once."""
    await fleet.shards(1)
    worker = fleet.start("a")
    worker.wire.latency = 2.0
    await fleet.until(lambda: bool(worker.epochs), 10)
    for _ in range(3):
        until = worker.leases.valid_until("shard-0")
        assert until <= virtual_time.now() - 2.0 + CONFIG.duration
        await fleet.until(lambda: worker.leases.valid_until("shard-0") != until, 10)  # noqa: B023


@fleet_test
async def test_a_lease_is_fenced_in_time_though_every_write_hangs(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    worker.wire.hangs = True
    until = worker.leases.valid_until("shard-0")
    await fleet.until(lambda: bool(worker.lost), CONFIG.duration * 2)
    assert 0 <= virtual_time.now() - until <= CONFIG.duration / 20 + LITTLE


@fleet_test
async def test_a_write_that_is_answered_after_the_fencing_counts_for_nothing(
    fleet: Fleet,
) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    worker.leases.stop_taking()
    worker.wire.latency = 2.0
    release = asyncio.create_task(worker.leases.release("shard-0"))
    await asyncio.sleep(LITTLE)
    worker.pause = CONFIG.duration
    await fleet.until(lambda: worker.lost == ["shard-0"], 1)
    assert not await release
    assert worker.lost == ["shard-0"]


@fleet_test
async def test_a_position_noted_before_the_loss_is_not_written_after_it(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    worker.wire.down = True
    worker.leases.note_position("shard-0", Position("5"), None)
    worker.pause = CONFIG.duration
    await fleet.until(lambda: worker.lost == ["shard-0"], 1)
    row = (await fleet.rows())["shard-0"]
    await fleet.table.replace(row, released(checkpointed(row, Position("9"), None)))
    worker.wire.down = False
    await fleet.until(lambda: bool(worker.epochs), CONFIG.scan_interval)
    await asyncio.sleep(5)
    assert (await fleet.rows())["shard-0"].checkpoint == Position("9")


@fleet_test
async def test_a_lease_not_held_is_not_valid(fleet: Fleet) -> None:
    worker = fleet.start("a")
    assert not worker.leases.is_valid("shard-0")
    assert worker.leases.valid_until("shard-0") == 0.0


@fleet_test
async def test_a_lease_taken_by_another_is_lost_at_the_next_look(fleet: Fleet) -> None:
    """KCL row 2."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    row = (await fleet.rows())["shard-0"]
    await fleet.table.replace(row, taken(row, "thief"))
    await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.scan_interval)


@single_lease_test
async def test_a_deleted_lease_is_lost_and_not_recreated(fleet: Fleet) -> None:
    """KCL rows 8 and 9."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    await fleet.table.delete((await fleet.rows())["shard-0"])
    await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.duration / 2)
    await asyncio.sleep(20)
    assert await fleet.rows() == {}


class Losses:
    """A listener that notes when leases are lost."""

    def __init__(self) -> None:
        self.lost: dict[str, float] = {}

    def lease_acquired(self, lease: Lease) -> None:
        """Nothing is started."""

    def lease_lost(self, key: str) -> None:
        self.lost[key] = virtual_time.now()

    def handover_requested(self, key: str) -> None:
        """Nobody asks."""


def test_each_lease_is_fenced_in_its_own_time_whatever_becomes_of_the_others() -> None:
    async def main() -> None:
        losses, tally = Losses(), Tally()
        keeper = LeaseKeeper(
            WatchedStore(MemoryLeaseStore(), "a", CONFIG.duration, tally),
            "a",
            CONFIG,
            losses,
            tally,
            virtual_time.now,
            asyncio.sleep,
            Random(1),
        )
        began, pause = virtual_time.now(), CONFIG.duration / 3
        fencing = asyncio.create_task(keeper.fence_loop())
        taken_at = {f"shard-{n}": began + n * pause for n in range(6)}
        for key, at in taken_at.items():
            await asyncio.sleep(at - virtual_time.now())
            keeper.add(Lease(key=key, owner="a", counter=1, checkpoint=TRIM_HORIZON), at)
        # What was sent earlier may be told of later.
        early = virtual_time.now() - CONFIG.duration / 2
        keeper.add(Lease(key="early", owner="a", counter=1, checkpoint=TRIM_HORIZON), early)
        await asyncio.sleep(2 * CONFIG.duration)
        assert losses.lost.keys() == {*taken_at, "early"}
        for key, at in (taken_at | {"early": early}).items():
            late = losses.lost[key] - (at + CONFIG.duration)
            assert 0 <= late <= CONFIG.duration / 20 + LITTLE, key
        fencing.cancel()

    virtual_time.run(main())
