"""Counters: every record once, and histograms that equal naive counting."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, Reject, on
from streamproc.kinesis.records import Record
from streamproc.pipeline.statistics import LATENCY_BUCKETS, Histogram, ShardStatistics
from streamproc.testing import Harness

# Multiples of 1/64 are exact in binary, so that naive and bulk arithmetic cannot differ.
ages = st.lists(st.integers(-64, 400_000).map(lambda n: n / 64), max_size=60)
exact_bounds = st.lists(
    st.integers(0, 300_000).map(lambda n: n / 64), min_size=1, max_size=8, unique=True
).map(lambda bounds: tuple(sorted(bounds)))


def naive_counts(bounds: tuple[float, ...], values: list[float]) -> list[int]:
    edges = [-math.inf, *bounds, math.inf]
    return [sum(low < value <= high for value in values) for low, high in pairwise(edges)]


@given(bounds=exact_bounds, values=ages)
def test_a_histogram_counts_as_one_would_by_hand(
    bounds: tuple[float, ...], values: list[float]
) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    assert histogram.counts == naive_counts(bounds, values)
    assert histogram.total == sum(values)


@given(bounds=exact_bounds, values=ages)
def test_ages_are_counted_as_if_one_by_one(bounds: tuple[float, ...], values: list[float]) -> None:
    now = 1_767_225_600.0
    histogram = Histogram(bounds)
    histogram.observe_ages(now, [now - age for age in values])
    assert histogram.counts == naive_counts(bounds, values)
    assert histogram.total == pytest.approx(sum(values), abs=1e-3)


def test_a_value_at_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]


def test_histograms_add_up() -> None:
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(3.0)
    one.add(other)
    assert (one.counts, one.total) == ([1, 1], 3.5)


def test_statistics_add_up() -> None:
    one = ShardStatistics(records=2, emitted_by_processor={"a": 1})
    other = ShardStatistics(records=3, rewinds=1, emitted_by_processor={"a": 2, "b": 4})
    other.batch_seconds.observe(0.02)
    one.add(other)
    assert (one.records, one.rewinds) == (5, 1)
    assert one.emitted_by_processor == {"a": 3, "b": 4}
    assert sum(one.batch_seconds.counts) == 1
    assert len(one.batch_seconds.counts) == len(LATENCY_BUCKETS) + 1


class Ping(Event, id="name"):
    name: str
    how: str = "good"


class Pinger(Processor[int]):
    policy = Policy(attempts=2, backoff=(0.0, 0.0))

    @on(Ping, key="name")
    def ping(self, event: Ping, ctx: Context[int]) -> None:
        ctx.state += 1
        ctx.emit(event)
        if event.how == "reject":
            raise Reject("asked")
        if event.how == "fail" or (event.how == "once" and ctx.attempt == 1):
            raise RuntimeError("asked")


RAW = {
    "garbage": b"{",
    "unknown": b'{"type":"Pong","data":{}}',
}


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["good", "good", "reject", "fail", "once", "garbage", "unknown"]),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=25,
    ),
    batch=st.integers(1, 25),
)
@settings(max_examples=80, deadline=None)
async def test_every_record_is_counted_exactly_once(
    kinds: list[tuple[str, int]], batch: int
) -> None:
    async with Harness(Pinger()) as h:
        records: list[Record] = []
        for how, number in kinds:
            raw = RAW.get(how)
            # The name tells how, so that a repetition is a repetition of the same event.
            event = Ping(f"{how}{number}", how)
            records.append(h.record(event) if raw is None else h.raw_record(raw))
        for first in range(0, len(records), batch):
            await h.process(*records[first : first + batch])
        counted = h.statistics
        left = len(h.dead_letters)
        emitted = len(h.emitted)
    succeeding = {kind for kind in kinds if kind[0] in ("good", "once")}
    assert counted.records == len(kinds)
    assert counted.processed == len(succeeding) == counted.emitted == emitted
    assert counted.unknown == sum(how == "unknown" for how, _ in kinds)
    assert counted.dead_letters == left
    assert (
        counted.processed + counted.duplicates + counted.unknown + counted.dead_letters
        == counted.records
    )
    assert counted.bytes == sum(len(record.data) for record in records)
    assert counted.batches == math.ceil(len(kinds) / batch)
    assert sum(counted.batch_records.counts) == counted.batches
    assert counted.batch_records.total == len(kinds)
    assert sum(counted.end_to_end_seconds.counts) == len(kinds)
