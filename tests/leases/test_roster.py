"""One heartbeat for all leases of a worker: what it proves, and what it saves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from streamproc.leases.lease import Lease, renewed, taken
from streamproc.position import Position
from tests.leases.fleet import CONFIG, CRASH_TAKEOVER, LITTLE, Fleet, in_fleet


def roster_test(test: Callable[[Fleet], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of a fleet that renews by heartbeats."""

    def run() -> None:
        in_fleet(test, roster=True)

    run.__doc__ = test.__doc__
    return run


async def members(fleet: Fleet) -> dict[str, Lease]:
    assert fleet.roster is not None
    return {row.key: row for row in await fleet.roster.list()}


@roster_test
async def test_leases_at_rest_are_neither_written_nor_read(fleet: Fleet) -> None:
    await fleet.shards(40)
    workers = [fleet.start("a"), fleet.start("b")]
    await fleet.until(lambda: fleet.loads() == [20, 20], 60)
    await asyncio.sleep(10)
    before = await fleet.rows()
    scans = [worker.leases.statistics().scans for worker in workers]
    writes = [worker.wire.writes for worker in workers]
    await asyncio.sleep(50)
    assert await fleet.rows() == before
    assert [w.leases.statistics().scans - n for w, n in zip(workers, scans, strict=True)] <= [1, 1]
    assert [w.wire.writes for w in workers] == writes
    assert fleet.loads() == [20, 20]


@roster_test
async def test_a_crash_is_taken_over_in_time_however_many_leases(fleet: Fleet) -> None:
    await fleet.shards(60)
    workers = [fleet.start(name) for name in "abc"]
    await fleet.until(lambda: fleet.loads() == [20, 20, 20], 90)
    await asyncio.sleep(7)
    await workers[0].crash()
    took = await fleet.until(lambda: fleet.loads() == [30, 30], 2 * CRASH_TAKEOVER)
    assert CONFIG.duration * 0.5 <= took <= CRASH_TAKEOVER + LITTLE
    assert "a" not in await members(fleet)


@roster_test
async def test_a_worker_whose_heartbeat_comes_through_keeps_everything(fleet: Fleet) -> None:
    """A silent worker's row is removed only if it still stands as it was seen."""
    await fleet.shards(4)
    a, b = fleet.start("a"), fleet.start("b")
    await fleet.until(lambda: fleet.loads() == [2, 2], 30)
    assert fleet.roster is not None
    passed = fleet.roster.delete
    attempts = []

    async def delete(old: Lease) -> bool:
        attempts.append(old.key)
        # The heartbeat arrives between the look and the removal.
        row = (await members(fleet))[old.key]
        await fleet.roster.replace(row, renewed(row))  # type: ignore[union-attr]
        return await passed(old)

    fleet.roster.delete = delete  # type: ignore[method-assign]
    a.wire.down = True
    await fleet.until(lambda: bool(attempts), CRASH_TAKEOVER)
    fleet.roster.delete = passed  # type: ignore[method-assign]
    assert attempts == ["a"]
    assert b.epochs.keys() & a.epochs.keys() == set()
    assert len(b.epochs) == 2


@roster_test
async def test_a_worker_whose_session_was_ended_drops_all_and_begins_anew(fleet: Fleet) -> None:
    await fleet.shards(3)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [3], 5)
    epochs = dict(worker.epochs)
    row = (await members(fleet))["a"]
    assert fleet.roster is not None
    assert await fleet.roster.delete(row)
    await fleet.until(lambda: len(worker.lost) == 3, CONFIG.duration * 0.4 + LITTLE)
    await fleet.until(lambda: len(worker.epochs) == 3, CONFIG.scan_interval)
    assert all(worker.epochs[key] > epochs[key] for key in epochs)
    assert (await members(fleet))["a"].owner != row.owner


@roster_test
async def test_a_second_process_under_the_same_name_ends_the_first_ones_session(
    fleet: Fleet,
) -> None:
    await fleet.shards(2)
    first = fleet.start("same")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    first.leases.stop_taking()
    second = fleet.start("same")
    await fleet.until(lambda: len(first.lost) == 2, CONFIG.duration * 0.4 + LITTLE)
    await fleet.until(lambda: len(second.epochs) == 2, 2 * CONFIG.scan_interval)


@roster_test
async def test_lost_answers_to_heartbeats_cost_nothing(fleet: Fleet) -> None:
    await fleet.shards(2)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [2], 5)
    for _ in range(10):
        worker.wire.lose_answers = 2
        await asyncio.sleep(4)
    assert worker.lost == []
    assert worker.leases.statistics().renew_failures >= 5


@roster_test
async def test_a_worker_that_leaves_is_off_the_roster(fleet: Fleet) -> None:
    await fleet.shards(2)
    a, b = fleet.start("a"), fleet.start("b")
    await fleet.until(lambda: fleet.loads() == [1, 1], 30)
    await a.stop()
    await fleet.until(lambda: len(b.epochs) == 2, CONFIG.scan_interval + LITTLE)
    assert (await members(fleet)).keys() == {"b"}


@roster_test
async def test_nothing_is_taken_without_a_session(fleet: Fleet) -> None:
    assert fleet.roster is not None
    await fleet.shards(2)

    async def refuse(lease: Lease) -> bool:
        return False

    passed, fleet.roster.create = fleet.roster.create, refuse  # type: ignore[method-assign]
    worker = fleet.start("a")
    await asyncio.sleep(20)
    assert worker.epochs == {}
    fleet.roster.create = passed  # type: ignore[method-assign]
    await fleet.until(lambda: len(worker.epochs) == 2, CONFIG.scan_interval + LITTLE)


@roster_test
async def test_a_change_by_somebody_who_is_on_no_roster_is_found_by_the_audit(
    fleet: Fleet,
) -> None:
    """An operator's tool, say, which took a lease away."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    row = (await fleet.rows())["shard-0"]
    await fleet.table.replace(row, taken(row, "operator"))
    await fleet.until(lambda: worker.lost == ["shard-0"], 65)


@roster_test
async def test_checkpoints_do_not_keep_a_silent_worker_alive(fleet: Fleet) -> None:
    """Its lease rows move, its heartbeat does not: by both clocks its session is over."""
    await fleet.shards(4)
    a, b = fleet.start("a"), fleet.start("b")
    await fleet.until(lambda: fleet.loads() == [2, 2], 30)
    assert a.leases._roster is not None

    beat = a.leases._roster.beat

    async def hang() -> bool:
        await asyncio.sleep(1e6)
        return await beat()

    a.leases._roster.beat = hang  # type: ignore[method-assign]
    for n in range(40):
        for key in list(a.epochs):
            a.leases.note_position(key, Position(f"{n}"), None)
        await asyncio.sleep(0.5)
    assert len(a.lost) == 2
    assert len(b.epochs) == 4
