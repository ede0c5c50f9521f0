"""The histogram against the samples themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc_benchmarks.histogram import LatencyHistogram
from streamproc_benchmarks.statistics import percentile

samples = st.lists(st.floats(min_value=0.001, max_value=3_000_000.0), min_size=1, max_size=60)


def histogram_of(latencies: list[float]) -> LatencyHistogram:
    found = LatencyHistogram()
    for ms in latencies:
        found.record(ms)
    return found


@settings(max_examples=15, deadline=None)
@given(samples, st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0]))
def test_percentiles_are_those_of_the_samples_to_three_digits(
    latencies: list[float], percent: float
) -> None:
    # The library rounds a rank to the nearest where `percentile` takes the next: one apart at most.
    least = percentile(latencies, max(1, percent / 100 * len(latencies) - 1) / len(latencies))
    found = histogram_of(latencies).percentile(percent)
    assert least * (1 - 2e-3) - 1e-3 <= found
    assert found <= percentile(latencies, percent / 100) * (1 + 2e-3) + 1e-3


@settings(max_examples=5, deadline=None)
@given(samples, samples)
def test_merged_histograms_are_the_histogram_of_all(one: list[float], other: list[float]) -> None:
    merged = LatencyHistogram.decode(histogram_of(one).encode())
    merged.add(LatencyHistogram.decode(histogram_of(other).encode()))
    everything = histogram_of(one + other)
    assert merged.count == len(one) + len(other)
    assert merged.curve() == everything.curve()
    assert merged.most == everything.most


def test_counted_many_times_is_recorded_many_times() -> None:
    found = LatencyHistogram()
    found.record(10.0, 99)
    found.record(500.0)
    assert found.count == 100
    assert found.percentile(99) == pytest.approx(10, rel=1e-3)
    assert found.most == pytest.approx(500, rel=1e-3)


def test_a_curve_rises_and_ends_at_the_longest() -> None:
    curve = histogram_of([float(ms) for ms in range(1, 1_001)]).curve()
    assert [at for at, _ in curve] == sorted(at for at, _ in curve)
    assert [ms for _, ms in curve] == sorted(ms for _, ms in curve)
    assert curve[-1] == (100.0, pytest.approx(1_000, rel=1e-3))


@pytest.mark.parametrize("ms", [-1.0, 4_000_000.0])
def test_what_cannot_be_a_latency_is_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="from 0 to one hour"):
        LatencyHistogram().record(ms)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        LatencyHistogram().percentile(50)
    assert not math.isnan(histogram_of([1.0]).percentile(0))
