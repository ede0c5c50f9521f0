"""Which events may be handled side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.pipeline.lanes import lanes

item_keys = st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=3), max_size=15)


def connected(keys: list[frozenset[str]]) -> list[set[int]]:
    """Return the lanes by naive merging of sets."""
    groups: list[set[int]] = []
    for item, own in enumerate(keys):
        touching = [group for group in groups if any(own & keys[other] for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append({item}.union(*touching))
    return groups


@given(item_keys)
def test_items_share_a_lane_exactly_when_keys_connect_them(keys: list[frozenset[str]]) -> None:
    found = lanes(keys)
    assert {frozenset(lane) for lane in found} == {frozenset(group) for group in connected(keys)}


@given(item_keys)
def test_lanes_keep_the_order_of_items_and_come_by_their_first(
    keys: list[frozenset[str]],
) -> None:
    found = lanes(keys)
    assert all(lane == sorted(lane) for lane in found)
    assert [lane[0] for lane in found] == sorted(lane[0] for lane in found)
    assert sorted(item for lane in found for item in lane) == list(range(len(keys)))


def test_an_item_with_two_keys_joins_the_lanes_of_both() -> None:
    assert lanes([["a"], ["b"], ["c"], ["a", "b"]]) == [[0, 1, 3], [2]]


def test_a_long_chain_of_shared_keys_is_one_lane() -> None:
    assert lanes([[at, at + 1] for at in range(5_000)]) == [list(range(5_000))]
