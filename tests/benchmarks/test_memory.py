"""Whether memory grows, decided on series made by hand."""

from __future__ import annotations

import mmap
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc_benchmarks.memory import Growth, Memory, TooShort, growth, resident_mb


def noisy(slope: float, scatter: float, seed: int, seconds: int = 200) -> list[tuple[float, float]]:
    rng = random.Random(seed)
    return [(at / 2, 150 + slope * at / 2 + rng.gauss(0, scatter)) for at in range(2 * seconds)]


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=0.0, max_value=10.0), st.integers(min_value=0, max_value=1_000))
def test_noise_alone_is_flat(scatter: float, seed: int) -> None:
    assert growth(noisy(0.0, scatter, seed)).is_flat


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=0.0, max_value=3.0), st.integers(min_value=0, max_value=1_000))
def test_a_leak_above_the_noise_is_not_flat(scatter: float, seed: int) -> None:
    # 0.05 MB/s over 200 s are 10 MB; the quartiles of that noise are at most some 4 MB apart.
    found = growth(noisy(0.05, scatter, seed))
    assert not found.is_flat
    assert found.grown_mb == pytest.approx(10, abs=2)


def test_one_step_at_the_start_or_a_spike_is_no_growth() -> None:
    spike = [(at, 400.0 if at == 50 else 150.0 + at % 3) for at in map(float, range(100))]
    assert growth(spike).is_flat
    assert growth(spike).grown_mb == pytest.approx(0, abs=0.5)


def test_memory_that_falls_is_flat() -> None:
    assert growth(noisy(-0.1, 1.0, seed=1)).is_flat


def test_what_comes_before_the_start_does_not_count() -> None:
    rising = [(float(at), 10.0 * at) for at in range(30)]
    level = [(float(at), 300.0) for at in range(30, 40)]
    at, mb = zip(*rising, *level, strict=True)
    memory = Memory(at=list(at), rss_mb=list(mb), published=[0] * 40, committed=[0] * 40)
    assert not memory.growth_from(0.0).is_flat
    assert memory.growth_from(30.0) == Growth(grown_mb=0.0, scatter_mb=1.0)
    assert memory.peak_mb == 300


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(TooShort, match="9 samples"):
        growth([(float(at), 1.0) for at in range(9)])
    with pytest.raises(TooShort):
        growth([(1.0, 1.0)] * 20)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_resident_memory_is_read_and_grows_with_what_is_kept() -> None:
    before = resident_mb(os.getpid())
    # From the system and not from malloc, which may have freed memory at hand.
    with mmap.mmap(-1, 50_000_000) as kept:
        kept.write(bytes(50_000_000))
        after = resident_mb(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(50, abs=10)


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert resident_mb(2**30) is None
