"""How much work a record is to each consumer: rates, their ratios, and what to know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec
from rich.console import Console
from rich.text import Text

from streamproc_benchmarks.charts import Chart, SpreadChart
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.measurement import Bottleneck
from streamproc_benchmarks.statistics import ratios, spread
from streamproc_benchmarks.tables import new_table, show_spread

__all__ = ["RATIOS", "Ratio", "Throughput", "ThroughputRound", "print_throughput"]

_BASE: Final = "plain"
_DISTURBED_SHARE: Final = 0.05
_TITLES: Final = {
    "plain": "aiobotocore + orjson, nothing else",
    "typed": "our fetch + typed decode, nothing else",
    "leased": "worker, leases and typed decode as KCL does them: no dedupe, no commits",
    "noop": "worker, noop processor",
    "fraud": "worker, fraud processor",
    "inventory": "worker, inventory processor",
    "async-kinesis": "a peer: its defaults, JSON to a dict by ujson, uvloop; no dedupe, no commits",
    "kcl": "a peer on Java: typed Jackson decode, a checkpoint a batch; no dedupe, no commits",
}

_Clock = Literal["cpu", "wall"]
_CLOCKS: Final[dict[_Clock, str]] = {"cpu": "records/CPU s", "wall": "records/s"}
_BOTH: Final[tuple[_Clock, ...]] = ("wall", "cpu")

_FIELDS: Final[tuple[tuple[str, _Clock], ...]] = (
    ("records_per_cpu_second", "cpu"),
    ("records_per_second", "wall"),
)


class Ratio(NamedTuple):
    """A bar that is a ratio of two consumers' rates.

    Where it speaks of records a second, both clocks have to reach it: by CPU time alone, waiting
    would cost nothing.
    """

    what: str
    ours: str
    other: str
    least: float
    clocks: tuple[_Clock, ...]


RATIOS: Final = (
    Ratio("no-op worker / our fetch and typed decode alone", "noop", "typed", 0.55, _BOTH),
    Ratio("no-op worker / aiobotocore and orjson alone", "noop", "plain", 4.0, _BOTH),
    Ratio("no-op worker / async-kinesis", "noop", "async-kinesis", 6.0, _BOTH),
    Ratio("no-op worker / KCL on Java", "noop", "kcl", 1.15, ("cpu",)),
    Ratio("the same work as KCL / KCL on Java", "leased", "kcl", 1.7, ("cpu",)),
    Ratio("fraud processor / no-op worker", "fraud", "noop", 0.40, _BOTH),
    Ratio("inventory processor / no-op worker", "inventory", "noop", 0.60, _BOTH),
)
"""What a run is judged by, as far as both consumers took turns in it."""


class ThroughputRound(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer's one run over a stream that was filled before.

    Attributes:
        records: between warm-up and end, while the clocks ran.
        records_per_cpu_second: records by the CPU time of the consumer's process, all its threads:
            what one core can do.
        records_per_second: records by wall time, which also counts what it waited for; with the
            bottleneck ``server`` it is the server's rate.
        cpu_us_per_record: the inverse of the first, in microseconds.
        consumer_share: how busy its core was with it, 0 to 1.
        delayed_share: how long it could have run but others had its core; None if unknown.
        load_share: how busy LocalKinesis and Redis were together; None if unknown.
        emitted: events that the processor emitted, in the whole run.
        lost, duplicated, reordered, unknown: records of the whole run, as `Verdict` counts them;
            0 unless it is a peer's.
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
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    unknown: int = 0


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """A throughput comparison.

    Attributes:
        event_bytes: mean size of a payload by workload.
        margin: share of the records at either end of a run that the clocks left out.
        rounds: by consumer, in the order in which they were run.
        peers: versions of the peers that were run.
        not_run: peers that were asked for and could not be run, with the reason.
    """

    records: int
    shards: int
    margin: float = 0.0
    event_bytes: dict[str, float]
    rounds: dict[str, list[ThroughputRound]]
    peers: dict[str, str] = {}
    not_run: dict[str, str] = {}

    def figures(self) -> list[Figure]:
        """Both rates of each consumer."""
        return [
            Figure(
                name=f"throughput.{consumer}.{field}",
                unit=_CLOCKS[clock],
                better="more",
                values=self._rates(consumer, clock),
                caveat=self._server_bound(consumer) if clock == "wall" else "",
            )
            for consumer in self.rounds
            for field, clock in _FIELDS
        ]

    def bars(self) -> list[Bar]:
        """Ratios, round by round, of what took turns in this run, or was to."""
        there = self.rounds.keys() | self.not_run.keys()
        return [
            self._bar(ratio, clock)
            for ratio in RATIOS
            if ratio.ours in there and ratio.other in there
            for clock in ratio.clocks
        ]

    def charts(self) -> list[Chart]:
        """Draw both rates, consumer by consumer."""
        if not self.rounds:
            return []
        bound = [consumer for consumer in self.rounds if self._server_bound(consumer)]
        return [
            SpreadChart(
                title="Throughput per core",
                unit="records per CPU second",
                rows={consumer: self._rates(consumer, "cpu") for consumer in self.rounds},
            ),
            SpreadChart(
                title="Throughput by the clock",
                unit="records per second",
                rows={consumer: self._rates(consumer, "wall") for consumer in self.rounds},
                marks=dict.fromkeys(bound, "the server's rate"),
            ),
        ]

    def caveats(self) -> list[str]:
        """Who was not run, whom the server held up, what else the machine did."""
        notes = [f"{name}: NOT run: {reason}" for name, reason in self.not_run.items()]
        for consumer in self.rounds:
            notes += [f"{consumer}: {note}" for note in self._waits(consumer)]
            notes += [f"{consumer}: {note}" for note in self._miscounts(consumer)]
        delayed = max(
            [one.delayed_share or 0.0 for rounds in self.rounds.values() for one in rounds],
            default=0.0,
        )
        if delayed >= _DISTURBED_SHARE:
            notes.append(
                f"Other processes had the consumers' core for up to {delayed:.0%} of a run: wall "
                "rates are too low by that and CPU times less sure; run again on a quiet machine."
            )
        return notes

    def _bar(self, ratio: Ratio, clock: _Clock) -> Bar:
        both = (ratio.ours, ratio.other)
        missing = [name for name in both if name not in self.rounds]
        if missing:
            unjudged, values = f"{' and '.join(missing)} was not run", []
        else:
            unjudged = self._not_their_own(*both) if clock == "wall" else ""
            values = ratios(*[self._rates(name, clock) for name in both])
        return Bar(
            what=f"{ratio.what}, {_CLOCKS[clock]}",
            better="more",
            limit=ratio.least,
            values=values,
            unjudged=unjudged,
        )

    def _rates(self, consumer: str, clock: _Clock) -> list[float]:
        if clock == "cpu":
            return [one.records_per_cpu_second for one in self.rounds[consumer]]
        return [one.records_per_second for one in self.rounds[consumer]]

    def _server_bound(self, consumer: str) -> str:
        """Return what is to be said about a wall rate; nothing if it is the consumer's."""
        rounds = self.rounds[consumer]
        held_up = sum(one.bottleneck == "server" for one in rounds)
        if not held_up:
            return ""
        return (
            f"LocalKinesis and Redis were the bottleneck in {held_up} of {len(rounds)} rounds: "
            "the wall rate is theirs, records per CPU second is the consumer's"
        )

    def _not_their_own(self, *consumers: str) -> str:
        """Return why the wall rates of some consumers are not what these can do, if so."""
        for consumer in consumers:
            if self._server_bound(consumer):
                return f"the wall rate of {consumer} is the server's"
            rounds = self.rounds[consumer]
            if spread([one.delayed_share or 0.0 for one in rounds]).median >= _DISTURBED_SHARE:
                return f"other processes had the core of {consumer}"
        return ""

    def _miscounts(self, consumer: str) -> Iterator[str]:
        rounds = self.rounds[consumer]
        for what in ("lost", "duplicated", "reordered", "unknown"):
            counts = [getattr(one, what) for one in rounds]
            if any(counts):
                yield f"{what} {', '.join(map(str, counts))} of {self.records:,} records, by round"

    def _waits(self, consumer: str) -> Iterator[str]:
        if bound := self._server_bound(consumer):
            yield bound
        rounds = self.rounds[consumer]
        kept_by = Counter(one.bottleneck for one in rounds)
        if kept_by["nobody"]:
            yield (
                f"nobody was busy all the time in {kept_by['nobody']} of {len(rounds)} rounds: it "
                "waited for polls and round trips, and the wall rate tells how long"
            )
        if kept_by["unknown"]:
            yield (
                "this platform does not tell the servers' CPU time, so the wall rate may be theirs"
            )


def print_throughput(found: Throughput, console: Console) -> None:
    """Print one row a consumer, and what the columns mean."""
    table = new_table(
        f"Throughput: {found.records:,} records, {found.shards} shards, "
        f"{len(next(iter(found.rounds.values()), ()))} rounds",
        ("k/s per core", "CPU us/record", "times plain", "k/s wall", "busy"),
    )
    base = [one.records_per_cpu_second for one in found.rounds.get(_BASE, ())]
    for consumer, rounds in found.rounds.items():
        rates = [one.records_per_cpu_second for one in rounds]
        wall = show_spread([one.records_per_second / 1000 for one in rounds], ".1f")
        bound = any(one.bottleneck == "server" for one in rounds)
        table.add_row(
            consumer,
            show_spread([rate / 1000 for rate in rates], ".1f"),
            show_spread([one.cpu_us_per_record for one in rounds], ".1f"),
            show_spread(ratios(rates, base), ".2f") if base else "",
            Text(f"{wall}\nthe server's", style="yellow") if bound else wall,
            f"{spread([one.consumer_share for one in rounds]).median:.0%}",
        )
    console.print(table)
    sizes = ", ".join(f"{name} {size:.0f}" for name, size in sorted(found.event_bytes.items()))
    console.print(
        "Medians over rounds, below them least-greatest. k/s is 1,000 records a second; per core "
        "means by the CPU time of the consumer's process, and so does times plain."
    )
    console.print(
        "Every record was done exactly once and in order, by a peer unless it says so below. The "
        f"clocks leave out {found.margin:.0%} of the records at either end. Payload bytes: "
        f"{sizes}. LocalKinesis on loopback, no network, no throttling."
    )
    for consumer, rounds in found.rounds.items():
        emitted = sum(one.emitted for one in rounds) / (found.records * len(rounds))
        said = f"; {emitted:.1%} of the events emitted one" if emitted else ""
        version = f" ({found.peers[consumer]})" if consumer in found.peers else ""
        console.print(f"{consumer}: {_TITLES[consumer]}{version}{said}")
