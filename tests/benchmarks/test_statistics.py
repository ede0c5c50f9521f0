from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc_benchmarks.statistics import Spread, percentile, ratios, spread

samples = st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.001, 1), (0.5, 50), (0.9, 90), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_is_not_pushed_up_by_rounding() -> None:
    # 0.07 * 100 is 7.000000000000001 in binary.
    assert percentile(range(1, 101), 0.07) == 7


@given(samples, st.floats(0.001, 1.0))
def test_a_percentile_is_the_least_sample_with_that_share_at_or_below(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, 50])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


def test_nothing_has_no_percentile_and_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_a_spread_keeps_the_outliers() -> None:
    assert spread([3.0, 100.0, 1.0]) == Spread(3.0, 1.0, 100.0, 3)
    assert spread([1.0, 2.0]).median == 1.5


def test_ratios_are_taken_round_by_round() -> None:
    # A host twice as slow in the second round changes both alike.
    assert ratios([100.0, 50.0], [20.0, 10.0]) == [5.0, 5.0]


def test_ratios_of_rounds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds against 1"):
        ratios([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="zero"):
        ratios([1.0], [0.0])
