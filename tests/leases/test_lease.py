"""The transitions of a lease. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.leases.lease import (
    Lease,
    asked_to_hand_over,
    checkpointed,
    ended,
    released,
    renewed,
    taken,
)
from streamproc.position import SHARD_END, Position
from tests.leases.making import lease


def test_renewing_moves_the_counter_only() -> None:
    """KCL row 1."""
    assert renewed(lease("a", "me", 4)) == lease("a", "me", 5)


def test_renewing_can_outrun_an_epoch_and_never_goes_back() -> None:
    assert renewed(lease("a", "me", 4), at_least=90).counter == 90
    assert renewed(lease("a", "me", 4), at_least=2).counter == 5


def test_taking_an_unowned_lease_is_no_switch() -> None:
    """KCL row 3."""
    row = taken(lease("a", None, 4), "me")
    assert (row.owner, row.counter, row.owner_switches) == ("me", 5, 0)


def test_taking_from_another_is_a_switch_and_taking_again_is_none() -> None:
    """KCL row 4."""
    row = taken(lease("a", "other", 4), "me")
    assert (row.owner, row.counter, row.owner_switches) == ("me", 5, 1)
    assert taken(row, "me").owner_switches == 1


def test_taking_ends_a_pending_hand_over() -> None:
    """KCL row 11."""
    assert taken(lease("a", "next", 4, processor="old"), "me").checkpoint_owner is None


def test_a_checkpoint_is_a_renewal_and_forgets_the_switches() -> None:
    row = checkpointed(taken(lease("a", "other", 4), "me"), Position("7", 2), "inc")
    assert (row.checkpoint, row.incarnation, row.counter, row.owner_switches) == (
        Position("7", 2),
        "inc",
        6,
        0,
    )
    assert checkpointed(row, Position("8"), None).incarnation == "inc"


def test_the_end_names_the_children() -> None:
    row = ended(lease("a", "me", 4), ("b", "c"))
    assert (row.checkpoint, row.children, row.counter) == (SHARD_END, ("b", "c"), 5)
    assert row.is_finished


def test_a_hand_over_from_request_to_release() -> None:
    row = lease("a", "old", 4)
    asked = asked_to_hand_over(row, "new")
    assert (asked.owner, asked.processor, asked.counter) == ("new", "old", 4)
    assert (asked.owner, asked.checkpoint_owner) == ("new", "old")
    given_up = released(asked)
    assert (given_up.owner, given_up.processor, given_up.counter) == ("new", "new", 5)
    assert (given_up.owner, given_up.checkpoint_owner) == ("new", None)


def test_a_release_that_nobody_waits_for_frees_the_lease() -> None:
    row = released(lease("a", "me", 4))
    assert (row.owner, row.counter) == (None, 5)


steps = st.sampled_from(
    [
        lambda row: taken(row, "x"),
        lambda row: taken(row, "y"),
        renewed,
        lambda row: renewed(row, 50),
        lambda row: checkpointed(row, Position("3"), None),
        released,
        lambda row: ended(row, ()),
        lambda row: asked_to_hand_over(row, "z") if row.owner and row.owner != "z" else row,
    ]
)


@given(st.lists(steps))
def test_the_counter_never_goes_back_and_every_take_has_a_higher_epoch(history: list) -> None:  # type: ignore[type-arg]
    row: Lease = lease("a")
    epoch = 0
    for step in history:
        after: Lease = step(row)
        assert after.counter >= row.counter
        assert after == row or (after.counter, after.owner) != (row.counter, row.owner)
        if after.counter != row.counter and after.processor not in (None, row.processor):
            assert after.counter > epoch
            epoch = after.counter
        row = after
