"""Where a shard's new owner begins."""

from __future__ import annotations

import pytest

from streamproc.errors import StateLost
from streamproc.pipeline.resume import Known, OnStateLoss, incarnation_of, resume_positions
from streamproc.position import LATEST, TRIM_HORIZON, Position
from streamproc.state.store import Adopted

CHECKPOINT = Position("100")
COMMITTED = Position("150")
AT_TIME = Position("AT_TIMESTAMP", timestamp=1.5)
CHOICES = ("halt", "replay", "continue")


def known(position: Position, incarnation: str | None = None, met: str | None = None) -> Known:
    return Known("shardId-0", position, incarnation, met)


def resume(known: Known, choice: OnStateLoss, *stored: Position | None) -> list[Position]:
    """Resume in stores that are all called "this"; so is the one of a single partition."""
    return resume_positions(known, [Adopted(each, "this") for each in stored], choice)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("incarnation", [None, "this"])
@pytest.mark.parametrize("committed", [COMMITTED, Position("50"), TRIM_HORIZON])
def test_what_the_same_redis_has_is_the_truth(
    choice: OnStateLoss, incarnation: str | None, committed: Position
) -> None:
    assert resume(known(CHECKPOINT, incarnation), choice, committed) == [committed]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("start", [TRIM_HORIZON, LATEST, AT_TIME])
@pytest.mark.parametrize("incarnation", [None, "this"])
@pytest.mark.parametrize("met", [None, "this"])
def test_a_new_shard_begins_where_its_lease_says(
    choice: OnStateLoss, start: Position, incarnation: str | None, met: str | None
) -> None:
    assert resume(known(start, incarnation, met), choice, None) == [start]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("met", [None, "this"])
def test_a_checkpoint_of_another_consumer_is_taken_over(
    choice: OnStateLoss, met: str | None
) -> None:
    assert resume(known(CHECKPOINT, None, met), choice, None) == [CHECKPOINT]


@pytest.mark.parametrize("incarnation", ["this", "other"])
def test_a_lost_position_is_dealt_with_as_asked(incarnation: str) -> None:
    lost = known(CHECKPOINT, incarnation)
    assert resume(lost, "continue", None) == [CHECKPOINT]
    assert resume(lost, "replay", None) == [TRIM_HORIZON]
    with pytest.raises(StateLost) as error:
        resume(lost, "halt", None)
    for part in ("shardId-0", "100:0", "this", incarnation, "worker.on_state_loss"):
        assert part in str(error.value)


@pytest.mark.parametrize("lost", [known(CHECKPOINT, "other"), known(TRIM_HORIZON, None, "other")])
def test_a_swapped_redis_is_refused_or_taken_with_its_own_positions(lost: Known) -> None:
    """Whatever it holds: its state belongs to its positions, not to the checkpoint."""
    for committed in (COMMITTED, Position("50"), TRIM_HORIZON):
        with pytest.raises(StateLost, match="another server"):
            resume(lost, "halt", committed)
        assert resume(lost, "replay", committed) == [committed]
        assert resume(lost, "continue", committed) == [committed]


def test_a_new_lease_in_a_redis_that_is_not_the_one_met_before_is_no_new_shard() -> None:
    """Leases that lie in the same Redis are lost together with the state."""
    lost = known(TRIM_HORIZON, None, "other")
    with pytest.raises(StateLost):
        resume(lost, "halt", None)
    assert resume(lost, "replay", None) == [TRIM_HORIZON]


def test_a_partition_alone_can_be_lost() -> None:
    ours = known(CHECKPOINT, incarnation_of(["this", "this"]))
    assert resume(ours, "halt", COMMITTED, Position("90")) == [COMMITTED, Position("90")]
    with pytest.raises(StateLost, match="no position"):
        resume(ours, "halt", COMMITTED, None)
    assert resume(ours, "replay", COMMITTED, None) == [COMMITTED, TRIM_HORIZON]
    assert resume(ours, "continue", COMMITTED, None) == [COMMITTED, CHECKPOINT]


def test_the_stores_of_all_partitions_have_one_id_that_any_of_them_changes() -> None:
    assert incarnation_of(["a"]) == "a"
    ids = {incarnation_of(each) for each in (["a", "b"], ["b", "a"], ["a", "c"], ["a", "b", "c"])}
    assert len(ids) == 4
