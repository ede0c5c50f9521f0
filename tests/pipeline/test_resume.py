"""Where a shard's new owner begins."""

from __future__ import annotations

import pytest

from streamproc.errors import StateLost
from streamproc.leases.lease import Lease
from streamproc.pipeline.resume import resume_position
from streamproc.position import LATEST, TRIM_HORIZON, Position
from streamproc.state.store import Adopted

CHECKPOINT = Position("100")
COMMITTED = Position("150")
AT_TIME = Position("AT_TIMESTAMP", timestamp=1.5)
CHOICES = ("halt", "replay", "continue")


def lease(checkpoint: Position, incarnation: str | None) -> Lease:
    return Lease(key="shardId-0", checkpoint=checkpoint, incarnation=incarnation)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("incarnation", [None, "this", "other"])
@pytest.mark.parametrize("committed", [COMMITTED, Position("50"), TRIM_HORIZON])
def test_what_redis_has_is_the_truth(
    choice: str, incarnation: str | None, committed: Position
) -> None:
    found = Adopted(committed, "this")
    assert resume_position(lease(CHECKPOINT, incarnation), found, choice) == committed  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("start", [TRIM_HORIZON, LATEST, AT_TIME])
def test_a_new_shard_begins_where_its_lease_says(choice: str, start: Position) -> None:
    assert resume_position(lease(start, None), Adopted(None, "this"), choice) == start  # type: ignore[arg-type]
    assert resume_position(lease(start, "this"), Adopted(None, "this"), choice) == start  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_checkpoint_of_another_consumer_is_taken_over(choice: str) -> None:
    found = Adopted(None, "this")
    assert resume_position(lease(CHECKPOINT, None), found, choice) == CHECKPOINT  # type: ignore[arg-type]


@pytest.mark.parametrize("incarnation", ["this", "other"])
def test_lost_state_is_dealt_with_as_asked(incarnation: str) -> None:
    held, found = lease(CHECKPOINT, incarnation), Adopted(None, "this")
    assert resume_position(held, found, "continue") == CHECKPOINT
    assert resume_position(held, found, "replay") == TRIM_HORIZON
    with pytest.raises(StateLost) as lost:
        resume_position(held, found, "halt")
    message = str(lost.value)
    for part in ("shardId-0", "100:0", "this", incarnation, "worker.on_state_loss"):
        assert part in message
