"""What the latency benchmark found, as data: each round's values first, medians from them."""

from __future__ import annotations

import msgspec

from streamproc_benchmarks.charts import Chart, SpreadChart
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.progress import Consumed
from streamproc_benchmarks.statistics import percentile

__all__ = ["Latency", "LatencyRound", "latency_round"]

_SLACK_SHARE = 0.05
_SLACK_S = 1.0
# Far below a tick, far above what adding up seconds costs in precision.
_ROUNDING_S = 1e-6


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


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A latency comparison; `warm_up` is in seconds from the first record."""

    offered: float
    seconds: float
    warm_up: float
    shards: int
    rounds: dict[str, list[LatencyRound]]

    def figures(self) -> list[Figure]:
        """Percentiles of each consumer."""
        return [
            Figure(
                name=f"latency.{consumer}.{field}",
                unit="ms",
                better="less",
                values=[getattr(one, field) for one in rounds],
                caveat=_not_reached(rounds),
            )
            for consumer, rounds in self.rounds.items()
            for field in ("p50_ms", "p99_ms")
        ]

    def bars(self) -> list[Bar]:
        """Return none: the bars are set for half of a measured capacity, not for a given rate."""
        return []

    def charts(self) -> list[Chart]:
        """Draw the 99th percentiles side by side."""
        rows = {name: [one.p99_ms for one in rounds] for name, rounds in self.rounds.items()}
        return [SpreadChart(title="99th percentile", unit="ms", rows=rows)]

    def caveats(self) -> list[str]:
        """Name each consumer for which the offered rate was not reached."""
        return [
            f"{consumer}: {missed}"
            for consumer, rounds in self.rounds.items()
            if (missed := _not_reached(rounds))
        ]


def _not_reached(rounds: list[LatencyRound]) -> str:
    missed = [one for one in rounds if not one.reached]
    if not missed:
        return ""
    worst = min(missed, key=lambda one: one.achieved)
    return (
        f"the offered {worst.offered:,.0f}/s was NOT reached in {len(missed)} of {len(rounds)} "
        f"rounds (sent {worst.sent:,.0f}/s, achieved {worst.achieved:,.0f}/s); its latency grows "
        "with the length of the run"
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
