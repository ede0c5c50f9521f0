"""Numbered steps, and what their states tell."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamproc.testing import Harness
from streamproc_benchmarks.effects import EffectsProcessor, Seen, Step, Steps, judge


def seen(numbers: list[int]) -> Seen:
    found = Seen()
    for number in numbers:
        found.add(number)
    return found


@given(st.integers(min_value=0, max_value=50))
def test_steps_in_order_are_clean(count: int) -> None:
    effects = judge({"k": count}, {"k": seen(list(range(count)))}, all_of_it=True)
    assert effects.is_clean
    assert effects.took_effect == effects.published == count


@given(st.permutations(range(12)), st.data())
def test_every_step_that_is_gone_or_came_twice_or_late_is_counted(
    order: list[int], data: st.DataObject
) -> None:
    lost = data.draw(st.sets(st.sampled_from(range(12))))
    twice = data.draw(st.lists(st.sampled_from([n for n in order if n not in lost] or [0])))
    kept = [number for number in order if number not in lost]
    again = [number for number in twice if number in kept]
    effects = judge({"k": 12}, {"k": seen(kept + again)}, all_of_it=True)
    assert effects.lost == len(lost)
    assert effects.took_effect == 12 - len(lost)
    assert effects.duplicated == len(again)
    late = sum(number < max(kept[:at], default=-1) for at, number in enumerate(kept))
    assert effects.reordered == late
    assert effects.is_clean == (not lost and not again and kept == sorted(kept))


def test_what_is_still_to_come_is_lost_only_at_the_end_of_the_stream() -> None:
    states = {"a": seen([0, 1])}
    assert judge({"a": 5, "b": 3}, states, all_of_it=False).lost == 0
    assert judge({"a": 5, "b": 3}, states, all_of_it=True).lost == 6
    assert judge({"a": 5}, {"a": seen([0, 2])}, all_of_it=False).lost == 1


def test_steps_are_events_of_the_benchmark_size_numbered_by_key() -> None:
    steps = Steps(3, seed=1, per_second=500)
    made = list(itertools.islice(steps, 60))
    assert sum(steps.sent.values()) == 60
    assert all(count > 5 for count in steps.sent.values())
    assert {record.size for record in made} == {405 + len("key-000000")}
    again = Steps(3, seed=1, per_second=500)
    assert list(itertools.islice(again, 60)) == made


async def test_the_processor_keeps_what_it_saw_in_its_state() -> None:
    async with Harness(EffectsProcessor()) as harness:
        for number in (0, 1, 3):
            await harness.send(Step(step_id=f"k-{number}", key="k", number=number))
        state = msgspec.to_builtins(harness.state("effects", "k"))
    assert state == {"next": 4, "missing": [2], "reordered": 0, "duplicated": 0}
