"""Counting different members: exactly while few, within the sketch's error beyond."""

from __future__ import annotations

import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.windows import Distinct


class Fine(Distinct):
    precision = 14


class Sketch(Distinct):
    exact = 0


@given(st.lists(st.text(max_size=3), max_size=150))
def test_few_members_are_counted_exactly_and_stored_in_one_form(members: list[str]) -> None:
    count = Distinct()
    for member in members:
        count.add(member)
    if len(set(members)) <= Distinct.exact:
        assert count.count == len(set(members))
        assert count.members == sorted(set(members))
        assert count.registers is None
    assert msgspec.json.decode(msgspec.json.encode(count), type=Distinct) == count


@pytest.mark.parametrize("size", [150, 1_000, 20_000])
def test_many_members_are_counted_within_the_documented_error(size: int) -> None:
    """Standard error 1.04 / sqrt(2**12) = 1.62 %; of 20 counts, all lie within four of them."""
    errors = []
    for seed in range(20):
        count = Distinct()
        for number in range(size):
            count.add(f"{seed}-{number}")
            count.add(f"{seed}-{number // 2}")
        errors.append(count.count / size - 1)
    assert max(map(abs, errors)) < 4 * 0.0162
    assert statistics.pstdev(errors) < 1.5 * 0.0162


def test_more_registers_are_more_exact() -> None:
    count = Fine()
    for number in range(50_000):
        count.add(str(number))
    assert count.count == pytest.approx(50_000, rel=4 * 0.0081)


members = st.sets(st.integers(0, 400).map(str), max_size=250)


@given(members, members, st.sampled_from([Distinct, Sketch]), st.sampled_from([Distinct, Sketch]))
def test_merging_is_counting_the_union(
    ours: set[str], theirs: set[str], kind: type[Distinct], other: type[Distinct]
) -> None:
    one, two, union = kind(), other(), Sketch()
    for count, names in ((one, ours), (two, theirs), (union, ours | theirs)):
        for name in names:
            count.add(name)
    one.merge(two)
    if one.registers is None:
        assert one.members == sorted(ours | theirs)
    else:
        assert one.registers == union.registers


def test_a_merged_sketch_is_a_copy() -> None:
    source, target = Sketch(), Distinct()
    source.add("a")
    target.merge(source)
    target.add("b")
    assert (source.count, target.count) == (1, 2)


def test_sketches_of_different_precision_do_not_merge() -> None:
    class Coarse(Sketch):
        precision = 8

    one, two = Sketch(), Coarse()
    one.add("a")
    two.add("a")
    with pytest.raises(ValueError, match="precision"):
        one.merge(two)


def test_an_emptied_sketch_counts_nothing() -> None:
    assert Sketch(registers=bytearray(4096)).count == 0
    assert Distinct().count == 0
