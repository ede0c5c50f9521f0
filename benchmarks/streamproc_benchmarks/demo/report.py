"""What a run came to: the numbers, the checks, and the exit code they make."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamproc.pipeline.statistics import Histogram
from streamproc_benchmarks.demo.board import bound_of
from streamproc_benchmarks.demo.verify import Check

__all__ = ["Report", "print_report"]

_DIFFERENCES_SHOWN: Final = 10
_LABEL_WIDTH: Final = 25


class Report(msgspec.Struct, kw_only=True):
    """One finished run; times are in seconds.

    Attributes:
        counts: published records by kind.
        publish_s: how long publishing took, the opening not counted.
        offered_rate: records a second that were to be published.
        take_over_s: from the SIGKILL until another worker had adopted the last of the shards.
        taken_over: shards that the killed worker held.
        lag_before: arrival to commit, up to the kill.
        lag_all: the same over the whole run, the take-over included.
        stop_s: from SIGTERM to the exit of the last worker.
        flagged: ids of the payments with an alert.
        frauds: ids of those that are frauds, which no processor was told.
    """

    counts: Counter[str]
    opening: int
    publish_s: float
    offered_rate: float
    split: str
    killed: str
    taken_over: int
    take_over_s: float
    lag_before: Histogram
    lag_all: Histogram
    stop_s: float
    flagged: set[str]
    frauds: frozenset[str]
    checks: list[Check]

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.checks)


def print_report(console: Console, report: Report, total_s: float) -> None:
    """Print the numbers and one line for each check, with its differences under it."""
    counts = report.counts
    published = counts.total() - report.opening
    facts = {
        "published": f"{counts.total():,} records: {counts['event']:,} events, "
        f"{counts['duplicate']:,} duplicates, {counts['poison']:,} poison",
        "throughput": f"{published / report.publish_s:,.0f} records/s "
        f"of {report.offered_rate:,.0f} offered",
        "lag before the kill": _quantiles(report.lag_before),
        "lag, kill included": _quantiles(report.lag_all),
        "split": report.split,
        "take-over": f"{report.take_over_s:.1f} s from the SIGKILL of {report.killed} until the "
        f"last of its {report.taken_over} shards had a new owner",
        "alerts against truth": _quality(report.flagged, report.frauds),
    }
    console.print()
    _print_rows(console, [(Text(f"  {name}"), text, []) for name, text in facts.items()])
    console.print()
    _print_rows(console, [_check_row(check) for check in report.checks])
    console.print()
    verdict = (
        Text("Verified against the oracle: nothing lost, nothing twice.", "bold green")
        if report.holds
        else Text("The result is NOT what the oracle says.", "bold red")
    )
    console.print(verdict, Text(f"{total_s:.0f} s in all", "dim"))


def _check_row(check: Check) -> tuple[Text, str, list[str]]:
    mark = Text("✓ ", "bold green") if check.holds else Text("✗ ", "bold red")
    shown = check.differences[:_DIFFERENCES_SHOWN]
    if len(check.differences) > len(shown):
        shown.append(f"and {len(check.differences) - len(shown):,} more")
    return mark + Text(check.name, ""), check.detail, shown


def _print_rows(console: Console, rows: list[tuple[Text, str, list[str]]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=_LABEL_WIDTH)
    grid.add_column()
    for label, text, differences in rows:
        grid.add_row(label, Text(text, "dim"))
        for difference in differences:
            grid.add_row("", Text(difference, "red"))
    console.print(grid)


def _quantiles(histogram: Histogram) -> str:
    p50, p99 = bound_of(histogram, 0.5), bound_of(histogram, 0.99)
    return f"p50 under {_time(p50)}, p99 under {_time(p99)}, arrival to commit"


def _quality(flagged: set[str], frauds: frozenset[str]) -> str:
    """Tell how good the alerts are: a property of the rules, which no check depends on."""
    hits = len(flagged & frauds)
    precision = f"{hits / len(flagged):.2f}" if flagged else "-"
    recall = f"{hits / len(frauds):.2f}" if frauds else "-"
    return (
        f"precision {precision}, recall {recall}: {hits} of {len(flagged)} alerts "
        f"are among the {len(frauds)} frauds"
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:g} s"
