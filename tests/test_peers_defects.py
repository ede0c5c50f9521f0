"""Defects of other Python consumers, found by running their releases, and our test of each."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from streamproc.leases.shard_sync import leases_to_create, startable
from streamproc.position import LATEST, TRIM_HORIZON, Position
from tests.leases.fleet import CONFIG, Fleet, fleet_test
from tests.leases.making import finished, lease, shard

ROOT = Path(__file__).parents[1]

DEFECTS: dict[str, str] = {
    "async-kinesis: a long handler pause loses what its queue cannot take": (
        "tests/kinesis/test_reader_budget.py"
        "::test_reading_ahead_stops_when_the_budget_is_used_and_goes_on_when_it_is_freed"
    ),
    "async-kinesis: a paused owner puts the checkpoint back": (
        "tests/test_peers_defects.py::test_a_paused_owner_cannot_put_the_checkpoint_back"
    ),
    "async-kinesis: one parent gates a merge child, and children begin at LATEST": (
        "tests/test_peers_defects.py::test_a_merge_child_waits_for_both_and_begins_at_its_horizon"
    ),
    "native-aws-kcl-py and KCL: a batch whose processing raises is skipped": (
        "tests/worker/test_worker.py"
        "::test_a_halting_policy_stops_the_shard_there_and_goes_on_once_mended"
    ),
    "native-aws-kcl-py: stopping on an idle shard writes no checkpoint": (
        "tests/test_peers_defects.py::test_a_stop_on_an_idle_shard_writes_the_last_checkpoint"
    ),
    "Redpanda Connect: a shard closed before it was claimed is never read": (
        "tests/test_peers_defects.py::test_a_shard_closed_before_anybody_came_is_read_first"
    ),
    "Redpanda Connect: the dedupe key is written before the effect": (
        "tests/state/test_store_contract.py"
        "::test_the_first_reason_of_several_is_given_and_nothing_is_written"
    ),
    "AWS Powertools: a handler that outruns its lease runs twice, without a fencing token": (
        "tests/worker/test_zombie.py::test_a_stale_owners_commit_is_refused_in_200_of_200_trials"
    ),
    "aiokafka, Faust: heartbeats share the handlers' loop": (
        "tests/worker/test_process.py::test_a_handler_that_blocks_the_loop_keeps_its_lease"
    ),
    "Quix: an answer without a next iterator breaks the loop": (
        "tests/kinesis/test_reader.py"
        "::test_the_end_of_a_shard_comes_after_its_records_with_the_children"
    ),
    "Quix: shards are listed once": (
        "tests/test_shard_watch.py::test_children_that_a_reader_did_not_create_are_created"
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_has_a_test(defect: str) -> None:
    path, _, name = DEFECTS[defect].partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@fleet_test
async def test_a_paused_owner_cannot_put_the_checkpoint_back(fleet: Fleet) -> None:
    """There, 50 became 10 again, and two owners worked on."""
    await fleet.shards(1)
    paused = fleet.start("paused")
    await fleet.until(lambda: bool(paused.epochs), 5)
    paused.leases.note_position("shard-0", Position("10"), None)
    paused.wire.down = True  # Stands still: nothing of it reaches the table.
    heir = fleet.start("heir")
    await fleet.until(lambda: bool(heir.epochs), CONFIG.duration + CONFIG.scan_interval + 1)
    heir.leases.note_position("shard-0", Position("50"), None)
    paused.wire.down = False
    await fleet.until(lambda: paused.lost == ["shard-0"], CONFIG.duration)
    await asyncio.sleep(CONFIG.duration)
    row = (await fleet.rows())["shard-0"]
    assert (row.owner, row.checkpoint) == ("heir", Position("50"))
    assert not paused.epochs


def test_a_merge_child_waits_for_both_and_begins_at_its_horizon() -> None:
    child = lease("child", parents=("left", "right"))
    rows = {row.key: row for row in (child, finished("left", "child"), lease("right"))}
    assert not startable(child, rows)
    rows["right"] = finished("right", "child")
    assert startable(child, rows)
    listed = [shard("left", time=1), shard("right", time=1)]
    listed.append(shard("child", "left", "right", time=2, closed=False))
    known = [lease("left"), lease("right")]
    [created] = leases_to_create(listed, known, LATEST, 0.0)
    assert created.checkpoint == TRIM_HORIZON


def test_a_shard_closed_before_anybody_came_is_read_first() -> None:
    listed = [shard("closed", time=1), shard("open", "closed", time=2, closed=False)]
    rows = {row.key: row for row in leases_to_create(listed, [], TRIM_HORIZON, 0.0)}
    assert startable(rows["closed"], rows)
    assert not startable(rows["open"], rows)


@fleet_test
async def test_a_stop_on_an_idle_shard_writes_the_last_checkpoint(fleet: Fleet) -> None:
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    worker.leases.note_position("shard-0", Position("7"), "redis")
    await worker.stop()
    row = (await fleet.rows())["shard-0"]
    assert (row.checkpoint, row.owner) == (Position("7"), None)
