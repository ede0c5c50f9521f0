"""Bucketed windows: whole buckets, bounded state, known error."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.windows import Buckets, History

DAY = 86_400


class Ten(Buckets):
    width = 10
    keep = 50


events = st.lists(st.tuples(st.integers(0, 300), st.integers(-5, 5)), max_size=60)


@given(events, st.integers(1, 50), st.integers(0, 10))
@settings(max_examples=300)
def test_a_window_is_all_buckets_that_it_touches(
    events: list[tuple[int, int]], length: int, delay: int
) -> None:
    buckets, taken = Ten(), []
    for time, value in events:
        if buckets.add(time, value, member=str(value)):
            taken.append((time, value))
        else:
            assert time < max(t for t, _ in taken) - 50
        newest = max(t for t, _ in taken)
        end = newest if delay + length <= 50 else newest + delay
        window = buckets.window(length, at=end, delay=delay)
        end -= delay
        # The bucket that (end - length, end] begins in is counted from its own beginning.
        oldest = (end - length) // 10 * 10
        expected = [v for t, v in taken if oldest <= t < end // 10 * 10 + 10]
        assert window.is_complete
        assert window.count == len(expected)
        assert window.sum == sum(expected)
        assert window.mean == (sum(expected) / len(expected) if expected else None)
        assert (window.min, window.max) == (
            min(expected, default=None),
            max(expected, default=None),
        )
        assert window.distinct == len(set(expected))
        assert len(buckets.starts) <= 50 / 10 + 2
        assert len(buckets.members) == len(buckets.starts)
    assert buckets.dropped == len(events) - len(taken)
    stored = msgspec.json.encode(buckets)
    assert msgspec.json.decode(stored, type=Ten) == buckets


def test_an_empty_window_and_a_late_event() -> None:
    class Strict(Buckets):
        width, keep, lateness = 10, 50, 5

    buckets = Strict()
    assert (buckets.window(10).count, buckets.window(10).min) == (0, None)
    assert buckets.add(100)
    assert buckets.add(95)
    assert not buckets.add(94)
    assert (buckets.window(20).count, buckets.dropped) == (2, 1)


def test_another_width_mends_itself() -> None:
    class Wide(Buckets):
        width, keep = 25, 50

    narrow = Ten()
    for time in range(0, 100, 5):
        narrow.add(time)
    wide = msgspec.json.decode(msgspec.json.encode(narrow), type=Wide)
    for time in range(100, 200, 5):
        wide.add(time)
    assert wide.window(25).count == 10, "two buckets of 25, 5 apart"
    assert set(wide.starts) <= {100, 125, 150, 175}


def test_the_stored_form_is_documented() -> None:
    buckets = Ten()
    assert msgspec.json.encode(buckets) == b"{}"
    buckets.add(61, 5, member="a")
    buckets.add(75, 2.5)
    assert msgspec.json.encode(buckets) == (
        b'{"starts":[60,70],"counts":[1,1],"sums":[5,2.5],"mins":[5,2.5],"maxs":[5,2.5],'
        b'"members":{"60":{"members":["a"]}},"newest":75,"since":25}'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None])
def test_what_cannot_be_stored_is_refused(value: Any) -> None:
    for add in (lambda b: b.add(1, value), lambda b: b.add(value)):
        buckets = Ten()
        with pytest.raises((TypeError, ValueError)):
            add(buckets)
        assert buckets == Ten()


def payments(cards: int, days: int) -> list[list[int]]:
    """Return each card's payment times: up to four a day on average, most of them around noon."""
    rng = random.Random(7)
    made = []
    for _ in range(cards):
        daily = rng.uniform(0, 4)
        times = set()
        for day in range(days):
            for _ in range(_poisson(rng, daily)):
                second = int(rng.gauss(DAY / 2, 20_000))
                if 0 < second < DAY:
                    times.add(day * DAY + second)
        made.append(sorted(times))
    return made


def _poisson(rng: random.Random, mean: float) -> int:
    count, left = 0, rng.expovariate(1)
    while left < mean:
        count += 1
        left += rng.expovariate(1)
    return count


WIDTHS = [
    (DAY, 3_600),
    (DAY, 900),
    (DAY, 300),
    (7 * DAY, 6 * 3_600),
    (7 * DAY, 3_600),
    (30 * DAY, DAY),
    (30 * DAY, 6 * 3_600),
]


def error_of(payments: list[list[int]], length: int, bucket: int, since: int = 0) -> float:
    """Return the sum of absolute errors over the sum of exact counts, of events after `since`."""

    class Bucketed(Buckets):
        width, keep = bucket, length

    class Exact(History):
        keep = length

    off = total = 0
    for times in payments:
        buckets, exact = Bucketed(), Exact()
        for time in times:
            buckets.add(time)
            exact.add(time)
            if time > since:
                count = exact.window(length).count
                off += abs(buckets.window(length).count - count)
                total += count
    assert total > 3_000
    return off / total


@pytest.mark.parametrize(("length", "bucket"), WIDTHS)
def test_the_error_is_about_half_a_bucket(length: int, bucket: int) -> None:
    error = error_of(payments(40, 75), length, bucket, since=30 * DAY)
    assert 0 < error <= 1.25 * bucket / 2 / length


PUBLISHED_LIMITS = (0.0215, 0.0054, 0.0018, 0.0225, 0.004, 0.0161, 0.005)


@pytest.mark.skipif("REFERENCE_DATA" not in os.environ, reason="no published payments")
@pytest.mark.parametrize(
    ("length", "bucket", "limit"),
    [(*widths, limit) for widths, limit in zip(WIDTHS, PUBLISHED_LIMITS, strict=True)],
)
def test_the_error_on_the_published_payments(length: int, bucket: int, limit: float) -> None:
    """A tenth above what was measured on a quarter of the cards (docs/windows.md)."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file = Path(os.environ["REFERENCE_DATA"]) / "tx_2018-04_to_08.parquet"
    columns = parquet.read_table(file, columns=["customer", "t"]).to_pydict()
    cards: dict[int, list[int]] = {}
    for customer, time in zip(columns["customer"], columns["t"], strict=True):
        if customer % 20 == 0:
            cards.setdefault(customer, []).append(time)
    assert 0 < error_of(list(cards.values()), length, bucket) <= limit
