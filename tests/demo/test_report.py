"""The report: its numbers, and the verdict that the checks make."""

from __future__ import annotations

from collections import Counter

import pytest
from rich.console import Console

from streamproc.pipeline.statistics import LATENCY_BUCKETS, Histogram
from streamproc_benchmarks.demo.report import Report, print_report
from streamproc_benchmarks.demo.verify import Check


def printed(flagged: set[str], frauds: frozenset[str], *checks: Check) -> str:
    report = Report(
        counts=Counter(event=10),
        opening=0,
        publish_s=1.0,
        offered_rate=10.0,
        split="",
        killed="worker-1",
        taken_over=1,
        take_over_s=1.0,
        lag_before=Histogram(LATENCY_BUCKETS),
        lag_all=Histogram(LATENCY_BUCKETS),
        stop_s=1.0,
        flagged=flagged,
        frauds=frauds,
        checks=list(checks),
    )
    console = Console(width=200)
    with console.capture() as capture:
        print_report(console, report, 1.0)
    return capture.get()


@pytest.mark.parametrize(
    ("flagged", "frauds", "words"),
    [
        ({"a", "b", "c", "d"}, {"a", "x"}, "precision 0.25, recall 0.50: 1 of 4 alerts"),
        (set(), {"x"}, "precision -, recall 0.00: 0 of 0 alerts are among the 1 frauds"),
        ({"a"}, set(), "precision 0.00, recall -"),
    ],
)
def test_alerts_are_measured_against_the_truth(
    flagged: set[str], frauds: set[str], words: str
) -> None:
    assert words in printed(flagged, frozenset(frauds))


def test_poor_alerts_do_not_fail_a_run_and_a_difference_does() -> None:
    sound, damaged = Check("stock right", ""), Check("stock right", "", ["stock s|x is missing"])

    assert "nothing lost, nothing twice" in printed({"a"}, frozenset("x"), sound)
    failed = printed({"x"}, frozenset("x"), damaged)
    assert "NOT what the oracle says" in failed
    assert "stock s|x is missing" in failed
