"""The report: tables for people, JSON for whoever compares two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.environment import Environment
from streamproc_benchmarks.results import (
    Latency,
    LatencyRound,
    Report,
    Throughput,
    ThroughputRound,
)
from streamproc_benchmarks.statistics import ratios, spread

__all__ = ["print_report", "write_json"]

_BASE: ConsumerName = "plain"
_TITLES: dict[ConsumerName, str] = {
    "plain": "aiobotocore + orjson, nothing else",
    "typed": "our fetch + typed decode, nothing else",
    "noop": "worker, noop processor",
    "fraud": "worker, fraud processor",
    "inventory": "worker, inventory processor",
}


def write_json(report: Report, path: Path) -> None:
    """Write all of it, each round's values included."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def print_report(report: Report, console: Console) -> None:
    """Print what was measured, on what, and what to beware of."""
    console.print()
    if report.throughput is not None:
        console.print(_throughput_table(report.throughput))
        for line in _throughput_notes(report.throughput):
            console.print(line)
        console.print()
    if report.latency is not None:
        console.print(_latency_table(report.latency))
        for line in _latency_notes(report.latency):
            console.print(line)
        console.print()
    for text in _environment_lines(report.environment, report.seed):
        console.print(Text(text, style="dim"))


def _throughput_table(found: Throughput) -> Table:
    table = Table(
        title=f"Throughput: {found.records:,} records, {found.shards} shards, "
        f"{_rounds(found.rounds)} rounds",
        title_justify="left",
    )
    table.add_column("consumer")
    headers = ("records/s\nper core", "least -\ngreatest", "CPU us\n/record", "times\nplain")
    for name in (*headers, "records/s\nwall", "core\nbusy"):
        table.add_column(name, justify="right")
    table.add_column("waits for")
    base = found.rounds.get(_BASE)
    for consumer, rounds in found.rounds.items():
        rates = spread([one.records_per_cpu_second for one in rounds])
        table.add_row(
            consumer,
            f"{rates.median:,.0f}",
            f"{rates.least:,.0f} -\n{rates.greatest:,.0f}",
            f"{spread([one.cpu_us_per_record for one in rounds]).median:.1f}",
            "" if base is None else _times(rounds, base),
            f"{spread([one.records_per_second for one in rounds]).median:,.0f}",
            f"{spread([one.consumer_share for one in rounds]).median:.0%}",
            _waits_for([one.bottleneck for one in rounds]),
        )
    return table


def _times(rounds: list[ThroughputRound], base: list[ThroughputRound]) -> str:
    """Return how many times the base's rate per core, round by round."""
    found = spread(
        ratios(
            [one.records_per_cpu_second for one in rounds],
            [one.records_per_cpu_second for one in base],
        )
    )
    return f"{found.median:.2f}\n({found.least:.2f} - {found.greatest:.2f})"


def _throughput_notes(found: Throughput) -> list[Text]:
    sizes = ", ".join(f"{name} {size:.0f}" for name, size in sorted(found.event_bytes.items()))
    notes = [
        Text("Medians over rounds, in brackets or below least - greatest; times plain is by core."),
        Text(f"Every record was done exactly once and in order. Payload bytes: {sizes}."),
        *[Text(f"{consumer}: {_TITLES[consumer]}") for consumer in found.rounds],
    ]
    for consumer, rounds in found.rounds.items():
        if any(one.bottleneck == "server" for one in rounds):
            notes.append(
                Text(
                    f"{consumer}: LocalKinesis and Redis were the bottleneck; the wall "
                    "rate is theirs, records/s per core is the consumer's.",
                    style="yellow",
                )
            )
        emitted = sum(one.emitted for one in rounds)
        if emitted:
            share = emitted / sum(one.records for one in rounds)
            notes.append(Text(f"{consumer}: {share:.1%} of the events emitted another."))
    return notes


def _waits_for(bottlenecks: list[str]) -> str:
    words = {
        "consumer": "nothing",
        "server": "the servers",
        "nobody": "polls,\nround trips",
        "unknown": "unknown here",
    }
    return ", ".join(sorted({words[one] for one in bottlenecks}))


def _latency_table(found: Latency) -> Table:
    table = Table(
        title=f"Latency from intended send to commit: {found.seconds:g} s, {found.shards} shards, "
        f"{_rounds(found.rounds)} rounds",
        title_justify="left",
    )
    table.add_column("consumer")
    for name in ("offered/s", "achieved/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "core\nbusy"):
        table.add_column(name, justify="right")
    for consumer, rounds in found.rounds.items():
        achieved = spread([one.achieved for one in rounds])
        table.add_row(
            consumer,
            f"{found.offered:,.0f}",
            Text(
                f"{achieved.median:,.0f}",
                style="" if all(one.reached for one in rounds) else "bold red",
            ),
            *[_column(rounds, name) for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")],
            f"{spread([one.consumer_share for one in rounds]).median:.0%}",
        )
    return table


def _latency_notes(found: Latency) -> list[Text]:
    notes = [
        Text(
            f"Open loop: latency counts from when a record was meant to be sent. The first "
            f"{found.warm_up:g} s are left out of the percentiles."
        )
    ]
    for consumer, rounds in found.rounds.items():
        missed = [one for one in rounds if not one.reached]
        if missed:
            notes.append(_not_reached(consumer, missed, len(rounds)))
    return notes


def _not_reached(consumer: ConsumerName, missed: list[LatencyRound], rounds: int) -> Text:
    worst = min(missed, key=lambda one: one.achieved)
    return Text(
        f"{consumer}: the offered {worst.offered:,.0f}/s was NOT reached in {len(missed)} "
        f"of {rounds} rounds (sent {worst.sent:,.0f}/s, achieved {worst.achieved:,.0f}/s); its "
        "latency grows with the length of the run.",
        style="bold red",
    )


def _environment_lines(environment: Environment, seed: int) -> list[str]:
    libraries = ", ".join(f"{name} {number}" for name, number in environment.libraries.items())
    load = environment.load_average
    return [
        f"{environment.python}; {libraries}; {environment.redis_server}",
        f"{environment.cpu}, {environment.usable_cores} of {environment.cores} cores usable, "
        f"{environment.kernel}, load average before {'unknown' if load is None else f'{load:.2f}'}",
        f"{environment.pinning}; seed {seed}; LocalKinesis on loopback, no network, no throttling",
    ]


def _column(rounds: list[LatencyRound], name: str) -> str:
    found = spread([getattr(one, name) for one in rounds])
    return f"{found.median:,.0f}\n({found.least:,.0f} - {found.greatest:,.0f})"


def _rounds(rounds: Mapping[ConsumerName, Sequence[object]]) -> int:
    return len(next(iter(rounds.values())))
