"""The 66 behaviours that KCL's own tests assert, and which test of ours asserts each.

A test names its rows in its docstring ("KCL row 12"), or stands in `ELSEWHERE` here. The rows are
numbered as in the list of Given / When / Then that was read from KCL 3.5.1's test suites: 1-12
lease rows, 13-25 taking and renewing, 26-28 cleanup, 29-34 shard sync, 35-40 a shard's life, 41-45
and 50-58 reading, 46-49 checkpoints, 59-60 audit, 61-66 the worker.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL = range(1, 67)

ELSEWHERE: dict[int, str] = {
    5: "tests/checkpoints/test_contract.py",
    25: "tests/leases/test_handover.py"
    "::test_the_owner_drains_and_checkpoints_before_the_asker_starts",
    38: "tests/leases/test_fencing.py"
    "::test_a_position_noted_before_the_loss_is_not_written_after_it",
    39: "tests/kinesis/test_reader_failures.py::test_a_failed_shard_iterator_is_asked_for_again",
    41: "tests/kinesis/test_fanout_reader.py"
    "::test_a_subscription_that_says_nothing_for_35_seconds_is_given_up",
    42: "tests/kinesis/test_reader_aggregates.py::test_a_reader_goes_on_inside_an_aggregate",
    43: "tests/kinesis/test_reader.py::test_empty_answers_move_the_lag_but_wake_nobody",
    44: "tests/kinesis/test_reader.py"
    "::test_the_end_of_a_shard_comes_after_its_records_with_the_children",
    45: "tests/kinesis/test_aggregation.py"
    "::test_only_what_belongs_to_another_shard_is_left_out_and_it_is_counted",
    46: "tests/state/test_store_contract.py::test_commits_form_a_chain",
    47: "tests/state/test_store_contract.py::test_commits_form_a_chain",
    48: "tests/leases/test_thread.py::test_operations_reach_the_store",
    50: "tests/kinesis/test_reader_rewind.py"
    "::test_rewind_discards_what_is_buffered_and_reads_again_from_there",
    51: "tests/kinesis/test_reader_failures.py"
    "::test_an_expired_iterator_goes_on_after_the_last_record_that_was_fetched",
    52: "tests/kinesis/test_budget.py"
    "::test_whatever_readers_ask_for_nothing_deadlocks_and_the_sums_hold",
    53: "tests/kinesis/test_reader_rewind.py"
    "::test_rewind_discards_what_is_buffered_and_reads_again_from_there",
    54: "tests/kinesis/test_fanout_reader.py::test_no_event_is_taken_before_there_is_room_for_it",
    55: "tests/kinesis/test_fanout_reader.py"
    "::test_a_rewind_drops_what_is_under_way_and_subscribes_anew",
    56: "tests/kinesis/test_fanout_reader.py::test_a_shard_that_was_trimmed_has_ended",
    57: "tests/kinesis/test_fan_out_on_localkinesis.py"
    "::test_the_continuation_of_an_empty_event_loses_nothing",
    58: "tests/kinesis/test_fan_out_on_localkinesis.py"
    "::test_a_registration_is_waited_for_until_it_is_active",
    61: "tests/worker/test_process.py::test_sigterm_drains_releases_and_exits_with_0",
    62: "tests/leases/test_handover.py"
    "::test_an_owner_that_never_hands_over_is_forced_after_the_timeout",
    66: "tests/leases/test_operations.py"
    "::test_notes_and_releases_of_an_earlier_ownership_are_refused",
}

DIFFERENT: dict[int, str] = {
    25: "there is no index to disagree with: every look reads the rows themselves",
    30: "the worker does not give up: it creates nothing, says so, and looks again",
    32: "no error: the child gets its lease at once and starts when its parent is finished",
    35: "the engine checkpoints, not the application: a shard ends once its records are committed",
    45: "only the sub-records out of range are left out; KCL drops the whole aggregate (data loss)",
    46: "there is no checkpoint call to misuse: a commit that does not follow the last is refused",
    47: "there is no prepared checkpoint: positions form a chain, none is committed out of order",
    63: "there is no leader: every worker plans by itself, and compare-and-set settles the races",
    64: "leases are spread by count, so there is no metric to fail; a worker that cannot renew "
    "fences itself and takes nothing, because taking needs the store that it cannot reach",
    65: "a worker reads one stream, named in its configuration: there is no tracker whose streams "
    "come and go; several streams are several groups of workers, each with its own leases",
}
"""Where we differ on purpose, and why."""


def named_rows() -> Iterator[tuple[int, str]]:
    """Yield the rows that tests name in their docstrings, with the test."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                for numbers in re.findall(r"KCL rows? ([\d, and-]+)", text):
                    for number in re.findall(r"\d+", numbers):
                        yield int(number), f"{path.relative_to(ROOT)}::{node.name}"


def test_every_row_has_a_test_or_a_reason() -> None:
    covered = {row for row, _ in named_rows()} | ELSEWHERE.keys()
    missing = set(ALL) - covered - DIFFERENT.keys()
    assert not missing, f"no test names rows {sorted(missing)}"
    assert all(row in ALL for row in covered)


@pytest.mark.parametrize("row", sorted(ELSEWHERE))
def test_what_stands_elsewhere_exists(row: int) -> None:
    path, _, name = ELSEWHERE[row].partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not name or name in names
