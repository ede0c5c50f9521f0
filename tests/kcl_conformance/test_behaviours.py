"""Behaviours of KCL's tests that no other test of ours is about."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease
from streamproc.leases.shard_sync import leases_to_create, startable
from streamproc.position import LATEST, SHARD_END, TRIM_HORIZON, Position
from tests import virtual_time
from tests.failing_pool import failing_pool
from tests.leases.fleet import CONFIG, Fleet, fleet_test
from tests.leases.making import lease


def test_an_open_child_of_an_open_parent_waits_for_it() -> None:
    """KCL row 32. KCL throws, or skips the child if told to; here it cannot start too early."""

    def shard(name: str, *parents: str, time: str) -> ShardInfo:
        return ShardInfo(
            shard_id=name,
            parents=parents,
            starting_hash_key="0",
            ending_hash_key="9",
            starting_sequence_number=time,
            ending_sequence_number=None,
        )

    parent = lease("parent")
    shards = [shard("parent", time="1"), shard("child", "parent", time="2")]
    [child] = leases_to_create(shards, [parent], LATEST, 0.0)
    assert child.checkpoint == TRIM_HORIZON
    assert not startable(child, {"parent": parent, "child": child})


def test_positions_are_in_kcls_order() -> None:
    """KCL row 49: ExtendedSequenceNumber."""
    ordered = [
        Position("AT_TIMESTAMP", timestamp=5.0),
        TRIM_HORIZON,
        LATEST,
        Position("0"),
        Position("9"),
        Position("9", 1),
        Position("10"),
        Position("1" + "0" * 55),
        SHARD_END,
    ]
    for before, after in pairwise(ordered):
        assert before < after
        assert not after < before


@fleet_test
async def test_the_end_of_a_shard_is_not_told_before_its_children_have_leases(
    fleet: Fleet,
) -> None:
    """KCL row 35: there the application must checkpoint the end; here finishing is one operation.

    While the store refuses the children's leases, the parent's lease is neither finished nor lost.
    """
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    children = [Lease(key=key, checkpoint=TRIM_HORIZON, parents=("shard-0",)) for key in "xy"]
    created = worker.wire.create
    failing = True

    async def create(row: Lease) -> bool:
        worker.wire.lose_answers = int(failing)
        return await created(row)

    worker.wire.create = create  # type: ignore[method-assign]
    finishing = asyncio.create_task(worker.leases.finish("shard-0", children))
    await asyncio.sleep(CONFIG.duration / 2)
    assert not (await fleet.rows())["shard-0"].is_finished
    failing = False
    assert await finishing
    assert (await fleet.rows())["shard-0"].is_finished


@pytest.mark.parametrize("after", [0.1, 3.0])
def test_losing_a_lease_waits_for_nothing(after: float) -> None:
    """KCL row 40: whatever the shard is doing, its task ends without a word to the lease store."""

    async def main() -> Any:
        pool, leases = failing_pool()
        await asyncio.sleep(after)
        tasks = list(pool._tasks.values())
        began = virtual_time.now()
        pool.lease_lost(next(iter(pool._tasks)))
        await asyncio.wait(tasks, timeout=60.0)
        return virtual_time.now() - began, leases.released

    assert virtual_time.run(main()) == (0.0, [])


@fleet_test
async def test_a_stop_without_leases_is_immediate(fleet: Fleet) -> None:
    """KCL row 61, its last part."""
    worker = fleet.start("a")
    await asyncio.sleep(5)
    began = virtual_time.now()
    await worker.stop()
    assert virtual_time.now() - began < 0.1
