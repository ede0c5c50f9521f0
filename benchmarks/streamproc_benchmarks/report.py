"""The report: tables for people, JSON for whoever compares two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
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
from streamproc_benchmarks.statistics import Spread, ratios, spread

__all__ = ["print_report", "print_steps", "write_json"]

_BASE: ConsumerName = "plain"
_DISTURBED_SHARE = 0.05
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


def print_steps(steps: Mapping[str, Spread], console: Console) -> None:
    """Print what single steps cost."""
    table = _table("CPU time a record, in microseconds", ("median", "least", "greatest"), "step")
    for name, found in steps.items():
        table.add_row(name, f"{found.median:.2f}", f"{found.least:.2f}", f"{found.greatest:.2f}")
    console.print(table)


def _throughput_table(found: Throughput) -> Table:
    table = _table(
        f"Throughput: {found.records:,} records, {found.shards} shards, "
        f"{_rounds(found.rounds)} rounds",
        ("k/s per core", "CPU us/record", "times plain", "k/s wall", "busy"),
    )
    base = found.rounds.get(_BASE)
    for consumer, rounds in found.rounds.items():
        table.add_row(
            consumer,
            _show([one.records_per_cpu_second / 1000 for one in rounds], ".1f"),
            _show([one.cpu_us_per_record for one in rounds], ".1f"),
            "" if base is None else _times(rounds, base),
            _show([one.records_per_second / 1000 for one in rounds], ".1f"),
            f"{spread([one.consumer_share for one in rounds]).median:.0%}",
        )
    return table


def _times(rounds: list[ThroughputRound], base: list[ThroughputRound]) -> str:
    """Return how many times the base's rate per core, round by round."""
    rates = [one.records_per_cpu_second for one in rounds]
    return _show(ratios(rates, [one.records_per_cpu_second for one in base]), ".2f")


def _throughput_notes(found: Throughput) -> list[Text]:
    sizes = ", ".join(f"{name} {size:.0f}" for name, size in sorted(found.event_bytes.items()))
    notes = [
        Text(
            "Medians over rounds, below them least-greatest. k/s is 1,000 records a second; per "
            "core means by the CPU time of the consumer's process, and so does times plain."
        ),
        Text(f"Every record was done exactly once and in order. Payload bytes: {sizes}."),
        *[Text(f"{consumer}: {_TITLES[consumer]}") for consumer in found.rounds],
    ]
    for consumer, rounds in found.rounds.items():
        notes += [Text(f"{consumer}: {note}", style=style) for note, style in _caveats(rounds)]
    delayed = max([one.delayed_share or 0.0 for rounds in found.rounds.values() for one in rounds])
    if delayed >= _DISTURBED_SHARE:
        notes.append(
            Text(
                f"Other processes had the consumers' core for up to {delayed:.0%} of a run: wall "
                "rates are too low by that and CPU times less sure; run again on a quiet machine.",
                style="yellow",
            )
        )
    return notes


def _caveats(rounds: list[ThroughputRound]) -> Iterator[tuple[str, str]]:
    """Yield what a reader of a consumer's figures must know, with the style to print it in."""
    kept_by = Counter(one.bottleneck for one in rounds)
    if kept_by["server"]:
        yield (
            f"LocalKinesis and Redis were the bottleneck in {kept_by['server']} of {len(rounds)} "
            "rounds: the wall rate is theirs, records/s per core is the consumer's",
            "yellow",
        )
    if kept_by["nobody"]:
        yield (
            f"nobody was busy all the time in {kept_by['nobody']} of {len(rounds)} rounds: it "
            "waited for polls and round trips, and the wall rate tells how long",
            "",
        )
    emitted = sum(one.emitted for one in rounds)
    if emitted:
        yield f"{emitted / sum(one.records for one in rounds):.1%} of the events emitted one", ""


def _latency_table(found: Latency) -> Table:
    table = _table(
        f"Latency from intended send to commit: {found.seconds:g} s, {found.shards} shards, "
        f"{_rounds(found.rounds)} rounds",
        ("offered/s", "achieved/s", "p50 ms", "p90 ms", "p99 ms", "max ms"),
    )
    for consumer, rounds in found.rounds.items():
        table.add_row(
            consumer,
            f"{found.offered:,.0f}",
            Text(
                _show([one.achieved for one in rounds], ",.0f"),
                style="" if all(one.reached for one in rounds) else "bold red",
            ),
            _show([one.p50_ms for one in rounds], ",.0f"),
            _show([one.p90_ms for one in rounds], ",.0f"),
            _show([one.p99_ms for one in rounds], ",.0f"),
            _show([one.max_ms for one in rounds], ",.0f"),
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


def _table(title: str, figures: Sequence[str], subject: str = "consumer") -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column(subject, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _rounds(rounds: Mapping[ConsumerName, Sequence[object]]) -> int:
    return len(next(iter(rounds.values())))


def _show(values: Sequence[float], form: str) -> str:
    found = spread(values)
    return f"{found.median:{form}}\n{found.least:{form}}-{found.greatest:{form}}"
