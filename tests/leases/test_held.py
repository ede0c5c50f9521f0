"""What the store's answer to a write says about a lease I hold."""

from __future__ import annotations

import pytest

from streamproc.leases.held import Verdict, judge
from streamproc.leases.lease import (
    Lease,
    asked_to_hand_over,
    checkpointed,
    released,
    renewed,
    taken,
)
from streamproc.position import Position
from tests.leases.making import lease

BASE = lease("a", "me", 5)
WROTE = renewed(BASE)
LOST_ANSWER = checkpointed(BASE, Position("7"), None)


@pytest.mark.parametrize(
    ("row", "before", "verdict"),
    [
        pytest.param(WROTE, [], Verdict.WRITTEN, id="my write"),
        pytest.param(LOST_ANSWER, [LOST_ANSWER], Verdict.STILL_MINE, id="an earlier write landed"),
        pytest.param(LOST_ANSWER, [], Verdict.LOST, id="a counter that I never wrote"),
        pytest.param(None, [], Verdict.LOST, id="deleted"),
        pytest.param(taken(BASE, "other"), [], Verdict.LOST, id="taken by another"),
        pytest.param(taken(BASE, "other"), [LOST_ANSWER], Verdict.LOST, id="taken meanwhile"),
        pytest.param(released(BASE), [released(BASE)], Verdict.LOST, id="I had let it go"),
        pytest.param(asked_to_hand_over(BASE, "other"), [], Verdict.ASKED, id="asked"),
        pytest.param(
            asked_to_hand_over(LOST_ANSWER, "other"),
            [LOST_ANSWER],
            Verdict.ASKED,
            id="asked after an earlier write landed",
        ),
        pytest.param(
            taken(asked_to_hand_over(BASE, "other"), "other"), [], Verdict.LOST, id="taken by force"
        ),
        pytest.param(
            lease("a", "me", 5, processor="me"), [], Verdict.LOST, id="owner is checkpoint owner"
        ),
        pytest.param(
            lease("a", "me", 5, processor="other"), [], Verdict.LOST, id="I ask, another processes"
        ),
    ],
)
def test_verdict(row: Lease | None, before: list[Lease], verdict: Verdict) -> None:
    assert judge(row, WROTE, BASE, before, "me") is verdict


def test_a_hand_over_request_that_was_withdrawn_leaves_the_lease_with_me() -> None:
    asked = asked_to_hand_over(BASE, "other")
    assert judge(BASE, renewed(asked), asked, [], "me") is Verdict.STILL_MINE


def test_a_processor_renews_while_another_worker_waits() -> None:
    """KCL row 10: the request does not end the renewals."""
    asked = asked_to_hand_over(BASE, "other")
    assert judge(renewed(asked), renewed(asked), asked, [], "me") is Verdict.WRITTEN
