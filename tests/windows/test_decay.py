"""Fading counts: order makes no difference, half-lives halve."""

from __future__ import annotations

from math import sqrt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.windows import Decay


class Fading(Decay):
    half_life = 10


events = st.lists(st.tuples(st.integers(0, 100), st.floats(-1_000, 1_000)), min_size=1, max_size=30)


@given(events)
def test_it_equals_weighing_every_event_over_again(events: list[tuple[int, float]]) -> None:
    fading = Fading()
    for time, value in events:
        fading.add(time, value)
    now = max(time for time, _ in events)
    weights = [0.5 ** ((now - time) / 10) for time, _ in events]
    total = sum(weights)
    mean = sum(w * v for w, (_, v) in zip(weights, events, strict=True)) / total
    variance = sum(w * (v - mean) ** 2 for w, (_, v) in zip(weights, events, strict=True)) / total
    assert fading.last == now
    assert fading.count == pytest.approx(total)
    assert fading.mean == pytest.approx(mean, abs=1e-6)
    assert fading.deviation == pytest.approx(sqrt(variance), abs=1e-2)
    assert fading.count_at(now + 20) == pytest.approx(total / 4)
    assert fading.sum_at(now + 10) == pytest.approx(fading.sum / 2)
    assert msgspec.json.decode(msgspec.json.encode(fading), type=Fading) == fading


def test_nothing_yet() -> None:
    assert (Fading().mean, Fading().deviation, Fading().count_at(5)) == (None, None, 0)
    assert msgspec.json.encode(Fading()) == b"{}"


def test_what_cannot_be_stored_is_refused() -> None:
    fading = Fading()
    with pytest.raises(ValueError, match="finite"):
        fading.add(1, 1e200)
    with pytest.raises(TypeError):
        fading.add("1")  # type: ignore[arg-type]
    assert fading == Fading()
