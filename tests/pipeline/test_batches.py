"""How large batches are: a pure rule, and what a shard's consumer makes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.pipeline.batches import LAG_SHARE, LEAST, TIP_S, BatchPace

SECONDS = st.floats(1e-7, 10.0)
LAGS = st.floats(0.0, 1e6)
MOST = st.integers(1, 10_000)


def test_quick_handlers_have_whole_batches_at_the_tip() -> None:
    assert BatchPace(6e-6).size(1_000, lag=0.0) == 1_000


def test_slow_handlers_have_small_batches_at_the_tip_and_large_ones_behind() -> None:
    pace = BatchPace(90e-6)
    assert pace.size(1_000, lag=0.0) == 222
    assert pace.size(1_000, lag=0.5) == 555
    assert pace.size(1_000, lag=60.0) == 1_000


def test_no_batch_takes_long() -> None:
    assert BatchPace(10e-3).size(1_000, lag=3_600.0) == 100


def test_very_slow_ones_commit_together_all_the_same() -> None:
    assert BatchPace(0.5).size(1_000, lag=0.0) == LEAST
    assert BatchPace(0.5).size(10, lag=0.0) == 10


def test_before_the_first_batch_nothing_is_known() -> None:
    assert BatchPace().size(1_000, lag=0.0) == 1_000


@given(seconds=SECONDS, most=MOST, lag=LAGS)
def test_a_batch_is_within_its_bounds(seconds: float, most: int, lag: float) -> None:
    size = BatchPace(seconds).size(most, lag)
    assert min(LEAST, most) <= size <= most
    if size > LEAST:
        assert size * seconds <= max(TIP_S, LAG_SHARE * lag) * (1 + 1e-9)


@given(seconds=SECONDS, most=MOST, lag=LAGS, more=LAGS)
def test_batches_grow_with_the_lag(seconds: float, most: int, lag: float, more: float) -> None:
    pace = BatchPace(seconds)
    assert pace.size(most, lag) <= pace.size(most, lag + more)


@given(each=SECONDS, others=st.lists(SECONDS, max_size=5), records=st.integers(1, 1_000))
def test_the_pace_follows_what_batches_take(each: float, others: list[float], records: int) -> None:
    pace = BatchPace()
    for other in others:
        pace = pace.after(records, records * other)
    for _ in range(80):
        pace = pace.after(records, records * each)
    assert abs(pace.seconds - each) <= each * 0.05 + 1e-8
    assert pace.after(0, 5.0) == pace
