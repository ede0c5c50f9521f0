"""A counter's buckets against a plain dict of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamproc.state.series import Series

BUCKETS = st.integers(0, 12)
WHOLE = st.integers(-3, 2**50)
HALVES = st.integers(-8, 8).map(lambda number: number / 2)  # they add up exactly

Deed = tuple[str, Any]


def deeds(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Deed]]:
    pairs = st.tuples(BUCKETS, numbers)
    return st.lists(
        st.tuples(st.just("add"), pairs)
        | st.tuples(st.just("take"), st.dictionaries(BUCKETS, numbers, min_size=1, max_size=4))
        | st.tuples(st.just("drop"), st.sets(BUCKETS, min_size=1, max_size=4))
        | st.tuples(st.just("forget"), BUCKETS)
        | st.tuples(st.just("look"), st.tuples(st.lists(st.integers(-1, 13)), st.integers(-1, 13))),
        max_size=25,
    )


def series_of(held: dict[int, Any]) -> Series:
    ordered = sorted(held)
    return Series(ordered, [held[bucket] for bucket in ordered])


@given(deeds(WHOLE) | deeds(WHOLE | HALVES))
def test_a_series_is_its_buckets_whatever_came_in_which_order(done: list[Deed]) -> None:
    held: dict[int, Any] = {5: 1}
    series = series_of(held)
    for at, (deed, what) in enumerate(done):
        if deed == "add":
            bucket, number = what
            assert series.add(bucket, number) == (bucket not in held)
            held[bucket] = held.get(bucket, 0) + number
        elif deed == "take":
            assert series.take(series_of(what)) == len(what.keys() - held.keys())
            held |= {bucket: held.get(bucket, 0) + number for bucket, number in what.items()}
        elif deed == "look":
            firsts, last = what
            assert series.totals(firsts, last) == [
                sum(number for bucket, number in held.items() if first <= bucket <= last)
                for first in firsts
            ]
        else:
            gone = what if deed == "drop" else {bucket for bucket in held if bucket < what}
            if gone:
                assert series.drop(gone) == len(gone & held.keys())
            held = {bucket: number for bucket, number in held.items() if bucket not in gone}
            if not held:
                held = {5: 1}
                series = series_of(held)
        assert dict(zip(series.buckets, series.numbers, strict=True)) == held
        assert series.buckets == sorted(held)
        assert [series.number(bucket) for bucket in range(-1, 14)] == [
            held.get(bucket, 0) for bucket in range(-1, 14)
        ]
        if at % 2:  # what was summed up before a change must not be used after it
            assert series.totals(range(14), 12) == [
                sum(number for bucket, number in held.items() if first <= bucket)
                for first in range(14)
            ]


def test_a_copy_goes_its_own_way() -> None:
    series = Series([1, 2], [10, 20])
    copy = series.copy()
    copy.add(3, 30)
    copy.drop({1})
    assert (series.buckets, series.totals([0], 9)) == ([1, 2], [30])
