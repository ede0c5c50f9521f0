"""How long records take under a steady load: from when one was due in the stream to its commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from streamproc_benchmarks.charts import Chart, PercentileChart
from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.figures import Bar, Better, Figure
from streamproc_benchmarks.histogram import LatencyHistogram
from streamproc_benchmarks.measurement import Bottleneck
from streamproc_benchmarks.tables import new_table, show_spread

__all__ = ["Capacity", "Latency", "LatencyRound", "print_latency"]

_JUDGED: ConsumerName = "noop"
_ABOVE_POLL_MS: Final = {"p50": 20.0, "p99": 100.0}
_FIELDS: Final[tuple[tuple[str, str, Better], ...]] = (
    ("p50_ms", "ms", "less"),
    ("p99_ms", "ms", "less"),
    ("offered", "records/s", "more"),
    ("achieved", "records/s", "more"),
)
_SENT_SHARE = 0.98


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer did with a stream that was filled before, by the clock on the wall."""

    records_per_second: float
    bottleneck: Bottleneck


class LatencyRound(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer's one run beside a generator that offers records at a fixed rate.

    Latency runs from when a record was due until it is done (committed), in ms.

    Attributes:
        offered: records a second that were due.
        sent: records a second that were sent.
        achieved: records a second that were done, from the first one's due time to the last
            one's end.
        reached: whether the last record was done within 5 % and 1 s of the offered time.
        late_ms: by how much the generator was late at the worst.
        samples: records that the percentiles are of; those of the warm-up are left out.
        consumer_share: how busy the consumer's core was with it, 0 to 1.
        histogram: all of them in microseconds, as `LatencyHistogram.encode` writes it.
    """

    offered: float
    sent: float
    achieved: float
    reached: bool
    late_ms: float
    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    consumer_share: float
    histogram: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A latency comparison; `warm_up` is in seconds from the first record.

    Attributes:
        share: of its capacity that each consumer was offered; None if the rate was given.
        poll_interval: seconds between two polls of a shard.
        capacity: of each consumer, a run each; empty if the rate was given.
        rounds: in the order in which they were run.
    """

    seconds: float
    warm_up: float
    shards: int
    poll_interval: float
    share: float | None
    capacity: dict[str, list[Capacity]]
    rounds: dict[str, list[LatencyRound]]

    def percentiles(self, consumer: str) -> list[tuple[float, float]]:
        """Return (percentile, ms) over all rounds of a consumer, from 0 to 100."""
        merged = LatencyHistogram()
        for one in self.rounds[consumer]:
            merged.add(LatencyHistogram.decode(one.histogram))
        return merged.curve()

    def figures(self) -> list[Figure]:
        """Percentiles of each consumer, and the rate that it was offered."""
        return [
            Figure(
                name=f"latency.{consumer}.{field}",
                unit=unit,
                better=better,
                values=[getattr(one, field) for one in rounds],
                caveat=_not_reached(rounds),
            )
            for consumer, rounds in self.rounds.items()
            for field, unit, better in _FIELDS
        ]

    def bars(self) -> list[Bar]:
        """Return what a no-op worker at half its capacity has to keep to."""
        rounds = self.rounds.get(_JUDGED)
        if rounds is None or self.share is None:
            return []
        return [
            Bar(
                what=f"latency of the {_JUDGED} worker at {self.share:.0%} of its capacity, {name}",
                better="less",
                limit=self.poll_interval * 1000 + above,
                unit="ms",
                values=[getattr(one, f"{name}_ms") for one in rounds],
                unjudged=_not_its_own(self.capacity.get(_JUDGED, ())) or _not_sent(rounds),
            )
            for name, above in _ABOVE_POLL_MS.items()
        ]

    def charts(self) -> list[Chart]:
        """Draw each consumer's percentiles, all rounds merged."""
        return [
            PercentileChart(
                title="Latency from due time to commit",
                unit="ms",
                curves={
                    consumer: [
                        (percent / 100, ms)
                        for percent, ms in self.percentiles(consumer)
                        if percent < 100
                    ]
                    for consumer in self.rounds
                },
                limits={f"bar of {bar.what.rpartition(', ')[2]}": bar.limit for bar in self.bars()},
            )
        ]

    def caveats(self) -> list[str]:
        """Whose rate was not reached, and whose capacity is the servers'."""
        return [
            f"{consumer}: {note}"
            for consumer, rounds in self.rounds.items()
            for note in (_not_reached(rounds), _not_its_own(self.capacity.get(consumer, [])))
            if note
        ]


def print_latency(found: Latency, console: Console) -> None:
    """Print one row a consumer; an achieved rate that is not the offered one stands out."""
    table = new_table(
        f"Latency from due time to commit: {found.seconds:g} s, {found.shards} shards, "
        f"{len(next(iter(found.rounds.values())))} rounds",
        (
            *("capacity k/s", "offered k/s", "sent k/s", "achieved k/s"),
            *("p50 ms", "p99 ms", "p99.9 ms", "max ms"),
        ),
    )
    for consumer, rounds in found.rounds.items():
        capacity = found.capacity.get(consumer, ())
        shown = _thousands([one.records_per_second for one in capacity]) if capacity else ""
        bound = any(one.bottleneck == "server" for one in capacity)
        table.add_row(
            consumer,
            Text(f"{shown}\nthe server's", style="yellow") if bound else shown,
            _thousands([rounds[0].offered]),
            _thousands([one.sent for one in rounds]),
            Text(
                _thousands([one.achieved for one in rounds]),
                style="" if all(one.reached for one in rounds) else "bold red",
            ),
            *[
                show_spread([getattr(one, field) for one in rounds], ",.0f")
                for field in ("p50_ms", "p99_ms", "p999_ms", "max_ms")
            ],
        )
    console.print(table)
    late = max(one.late_ms for rounds in found.rounds.values() for one in rounds)
    console.print(
        "Open loop: latency counts from when a record was due. A generator within LocalKinesis "
        f"appends it, without PutRecords; it was at most {late:,.0f} ms late, which counts. The "
        f"first {found.warm_up:g} s are left out of the percentiles. A shard at its tip is polled "
        f"every {found.poll_interval * 1000:g} ms."
    )


def _thousands(rates: Sequence[float]) -> str:
    return show_spread([rate / 1000 for rate in rates], ",.1f")


def _not_reached(rounds: Sequence[LatencyRound]) -> str:
    missed = [one for one in rounds if not one.reached]
    if not missed:
        return ""
    worst = min(missed, key=lambda one: one.achieved)
    return (
        f"the offered {worst.offered:,.0f}/s was NOT reached in {len(missed)} of {len(rounds)} "
        f"rounds (sent {worst.sent:,.0f}/s, achieved {worst.achieved:,.0f}/s); its latency grows "
        "with the length of the run"
    )


def _not_sent(rounds: Sequence[LatencyRound]) -> str:
    behind = [one for one in rounds if one.sent < _SENT_SHARE * one.offered]
    if not behind:
        return ""
    least = min(one.sent for one in behind)
    return f"the generator sent only {least:,.0f}/s in {len(behind)} of {len(rounds)} rounds"


def _not_its_own(runs: Sequence[Capacity]) -> str:
    held_up = sum(one.bottleneck == "server" for one in runs)
    if not held_up:
        return ""
    return (
        f"LocalKinesis and Redis were the bottleneck in {held_up} of {len(runs)} runs that "
        "measured its capacity: it can do more, and was offered half of what they let it"
    )
