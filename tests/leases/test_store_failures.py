"""A store that is away, hangs, or applies writes and loses the answers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streamproc.leases.lease import Lease
from streamproc.position import SHARD_END, TRIM_HORIZON, Position
from tests import virtual_time
from tests.leases.fleet import CONFIG, LITTLE, Fleet, fleet_test, in_fleet, single_lease_test


@fleet_test
async def test_a_short_outage_loses_nothing(
    fleet: Fleet,
) -> None:
    await fleet.shards(4)
    workers = [fleet.start("a"), fleet.start("b")]
    await fleet.until(lambda: fleet.loads() == [2, 2], 60)
    for worker in workers:
        worker.wire.down = True
    await asyncio.sleep(CONFIG.duration / 2)
    for worker in workers:
        worker.wire.down = False
    await asyncio.sleep(60)
    assert [worker.lost for worker in workers] == [[], []]
    assert all(worker.leases.statistics().store_errors for worker in workers)


@fleet_test
async def test_after_a_long_outage_everybody_resumes_its_own(fleet: Fleet) -> None:
    """Nobody could renew, so nobody may conclude that the others are dead."""
    await fleet.shards(6)
    workers = [fleet.start("a"), fleet.start("b"), fleet.start("c")]
    await fleet.until(lambda: fleet.loads() == [2, 2, 2], 60)
    before = [set(worker.epochs) for worker in workers]
    for worker in workers:
        worker.wire.down = True
    await asyncio.sleep(CONFIG.duration * 4)
    assert fleet.loads() == [0, 0, 0]
    for worker in workers:
        worker.wire.down = False
    await fleet.until(lambda: fleet.loads() == [2, 2, 2], CONFIG.scan_interval)
    assert [set(worker.epochs) for worker in workers] == before
    await asyncio.sleep(60)
    assert [set(worker.epochs) for worker in workers] == before


def test_an_outage_is_logged_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(fleet: Fleet) -> None:
        worker = fleet.start("a")
        await asyncio.sleep(5)
        worker.wire.down = True
        await asyncio.sleep(100)
        worker.wire.down = False
        await asyncio.sleep(5)

    caplog.set_level(logging.INFO)
    in_fleet(test)
    said = [message for message in caplog.messages if "store" in message]
    assert len(said) == 2
    assert "told to be down" in said[0]
    assert "works again" in said[1]


@fleet_test
async def test_a_write_whose_answer_is_lost_costs_no_lease(fleet: Fleet) -> None:
    """KCL 1.3: a spurious failure is recognised by the row."""
    await fleet.shards(3)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [3], 5)
    for n in range(40):
        worker.wire.lose_answers = 1 + n % 3
        for key in worker.epochs:
            worker.leases.note_position(key, Position(f"{n + 1}"), None)
        await asyncio.sleep(1.7)
    await asyncio.sleep(3)
    assert worker.lost == []
    assert {row.checkpoint for row in (await fleet.rows()).values()} == {Position("40")}
    assert worker.leases.statistics().renew_failures > 20


@fleet_test
async def test_a_take_whose_answer_is_lost_is_found_at_the_next_scan(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    worker.wire.lose_answers = 1
    await fleet.until(lambda: bool(worker.epochs), CONFIG.scan_interval + LITTLE)


@fleet_test
async def test_a_release_whose_answer_is_lost_is_done(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.leases.stop_taking()
    worker.wire.lose_answers = 2
    assert await worker.leases.release("shard-0", Position("7"))
    row = (await fleet.rows())["shard-0"]
    assert (row.owner, row.checkpoint) == (None, Position("7"))
    assert worker.lost == []


@fleet_test
async def test_a_finish_whose_answers_are_lost_is_done(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.wire.lose_answers = 4
    children = [Lease(key=key, checkpoint=TRIM_HORIZON, parents=("shard-0",)) for key in "xy"]
    assert await worker.leases.finish("shard-0", children)
    row = (await fleet.rows())["shard-0"]
    assert (row.checkpoint, row.children) == (SHARD_END, ("x", "y"))
    await worker.leases.stop()
    assert (await fleet.rows())["shard-0"] == row


@single_lease_test
async def test_one_who_gives_up_a_lease_does_not_hold_up_the_others(fleet: Fleet) -> None:
    """The store fails for one lease only; the others' renewals go on."""
    await fleet.shards(3)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [3], 5)
    passed = worker.wire.replace

    async def replace(old: Lease, new: Lease) -> Lease | None:
        worker.wire.down = old.key == "shard-1"
        try:
            return await passed(old, new)
        finally:
            worker.wire.down = False

    worker.wire.replace = replace  # type: ignore[method-assign]
    release = asyncio.create_task(worker.leases.release("shard-1"))
    while not release.done():
        await asyncio.sleep(0.5)
        for key in ("shard-0", "shard-2"):
            assert worker.leases.valid_until(key) - virtual_time.now() > CONFIG.duration / 2
    assert not await release
    assert worker.lost == ["shard-1"]
    assert set(worker.epochs) == {"shard-0", "shard-2"}


@fleet_test
async def test_a_store_that_swallows_cancellations_does_not_keep_a_worker_from_stopping(
    fleet: Fleet,
) -> None:
    """As redis-py does on Python 3.11 when an answer and the cancellation come together."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.wire.swallow = 1
    worker.wire.hangs = True
    await asyncio.sleep(CONFIG.scan_interval)  # The scan waits for an answer now.
    worker.wire.hangs = False
    async with asyncio.timeout(1):
        await worker.stop()
