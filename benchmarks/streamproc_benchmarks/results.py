"""What a benchmark found, as data: each round's values first, medians and ratios from them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.environment import Environment
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.measurement import Bottleneck
from streamproc_benchmarks.progress import Consumed
from streamproc_benchmarks.statistics import percentile

__all__ = [
    "Latency",
    "LatencyRound",
    "Report",
    "Throughput",
    "ThroughputRound",
    "latency_round",
    "throughput_round",
]

_SLACK_SHARE = 0.05
_SLACK_S = 1.0
# Far below a tick, far above what adding up seconds costs in precision.
_ROUNDING_S = 1e-6


class ThroughputRound(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer's one run over a stream that was filled before.

    Attributes:
        records_per_cpu_second: records by the CPU time of the consumer's process, all its threads:
            what one core can do.
        records_per_second: records by wall time, which also counts what it waited for.
        cpu_us_per_record: the inverse of the first, in microseconds.
        consumer_share: how busy its core was with it, 0 to 1.
        delayed_share: how long it could have run but others had its core; None if unknown.
        load_share: how busy LocalKinesis and Redis were together; None if unknown.
        emitted: events that the processor emitted.
    """

    records: int
    records_per_cpu_second: float
    records_per_second: float
    cpu_us_per_record: float
    consumer_share: float
    delayed_share: float | None
    load_share: float | None
    bottleneck: Bottleneck
    emitted: int
    batches: int


class LatencyRound(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer's one run beside a generator that offers records at a fixed rate.

    Latency runs from when a record was meant to be sent until it is done (committed), in ms.

    Attributes:
        offered: records a second that were to be sent.
        sent: records a second that were sent.
        achieved: records a second that were done, from the first one's intended time to the last
            one's end.
        reached: whether the last record was done within 5 % and 1 s of the offered time.
        samples: records that the percentiles are of; those of the warm-up are left out.
    """

    offered: float
    sent: float
    achieved: float
    reached: bool
    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    consumer_share: float


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """A throughput comparison: rounds in the order in which they were run."""

    records: int
    shards: int
    event_bytes: dict[str, float]
    rounds: dict[ConsumerName, list[ThroughputRound]]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A latency comparison; `warm_up` is in seconds from the first record."""

    offered: float
    seconds: float
    warm_up: float
    shards: int
    rounds: dict[ConsumerName, list[LatencyRound]]


class Report(msgspec.Struct, kw_only=True):
    """A benchmark, complete enough to be repeated."""

    command: Sequence[str]
    seed: int
    settings: dict[str, object]
    environment: Environment
    throughput: Throughput | None = None
    latency: Latency | None = None


def throughput_round(consumed: Consumed) -> ThroughputRound:
    """Return the figures of a run that was checked."""
    taken, records = consumed.reading, consumed.records
    return ThroughputRound(
        records=records,
        records_per_cpu_second=records / taken.own,
        records_per_second=records / taken.wall,
        cpu_us_per_record=taken.own / records * 1e6,
        consumer_share=taken.own_share,
        delayed_share=taken.delayed_share,
        load_share=taken.load_share,
        bottleneck=taken.bottleneck,
        emitted=consumed.counters.get("emitted", 0),
        batches=len(consumed.batches),
    )


def latency_round(
    published: Published, consumed: Consumed, offered: float, warm_up: float
) -> LatencyRound:
    """Return the figures of a run that was checked.

    Raises:
        ValueError: no record lies after the warm-up.
    """
    done_at = consumed.done_at()
    count, started = len(published.order), published.started
    samples = [
        (done_at[record] - intended) * 1000
        for record, intended in zip(published.order, published.intended, strict=True)
        if intended - started >= warm_up - _ROUNDING_S
    ]
    took = max(done_at.values()) - started
    return LatencyRound(
        offered=offered,
        sent=_rate(count, published.sent - started, offered),
        achieved=count / took,
        reached=took <= count / offered * (1 + _SLACK_SHARE) + _SLACK_S,
        samples=len(samples),
        p50_ms=percentile(samples, 0.5),
        p90_ms=percentile(samples, 0.9),
        p99_ms=percentile(samples, 0.99),
        max_ms=max(samples),
        consumer_share=consumed.reading.own_share,
    )


def _rate(count: int, seconds: float, offered: float) -> float:
    # The last records are sent at the start of their tick: at most at the rate that was asked for.
    return min(offered, count / seconds)
