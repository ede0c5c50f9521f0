"""Figures and their report, from accounts made by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamproc_benchmarks.load import Published
from streamproc_benchmarks.measurement import Mark
from streamproc_benchmarks.progress import Consumed, DoneBatch
from streamproc_benchmarks.runs import check
from streamproc_benchmarks.throughput import (
    Throughput,
    ThroughputRound,
    print_throughput,
    throughput_round,
)
from streamproc_benchmarks.verification import CountsWrong

RATE = 100.0
COUNT = 400
STARTED = 50.0
COUNTERS = {
    "processed": COUNT, "duplicates": 0, "unknown": 0, "dead_letters": 0, "store_errors": 0,
    "rewinds": 0, "emitted": 8,
}  # fmt: skip


def clocks(at: float, own: float, server: float | None = 0.0) -> Mark:
    return Mark(at=at, own=own, delayed=0.0, server=server, redis=0.0)


def published() -> Published:
    return Published(shards={"s": [str(number) for number in range(COUNT)]}, mean_bytes=405.0)


def consumed(**counters: int) -> Consumed:
    """Each record done by itself, one after another."""
    return Consumed(
        started=clocks(STARTED, 0.0),
        ended=clocks(STARTED + 10, 4.0, server=1.0),
        batches=[DoneBatch("s", STARTED + number / RATE, [str(number)]) for number in range(COUNT)],
        counters=COUNTERS | counters,
    )


def throughput_of(*rounds: ThroughputRound) -> Throughput:
    return Throughput(
        records=COUNT, shards=1, event_bytes={"events": 405.0}, rounds={"noop": list(rounds)}
    )


def test_throughput_by_core_and_by_the_wall_are_both_told() -> None:
    found = throughput_round(consumed())
    assert found.records_per_cpu_second == pytest.approx(COUNT / 4.0)
    assert found.records_per_second == pytest.approx(COUNT / 10.0)
    assert found.cpu_us_per_record == pytest.approx(4.0 / COUNT * 1e6)
    assert found.bottleneck == "nobody"


def test_a_saturated_server_is_named_in_the_report() -> None:
    slow = Consumed(
        started=clocks(0.0, 0.0),
        ended=clocks(10.0, 3.0, server=9.9),
        batches=[DoneBatch("s", 5.0, ["1"])],
        counters={},
    )
    found = throughput_of(throughput_round(slow))
    (caveat,) = found.caveats()
    assert "noop: LocalKinesis and Redis were the bottleneck in 1 of 1 rounds" in caveat
    by_core, by_clock = found.figures()
    assert not by_core.caveat
    assert "the wall rate is theirs" in by_clock.caveat
    out = io.StringIO()
    print_throughput(found, Console(file=out, width=120))
    assert "the server's" in out.getvalue()
    assert [getattr(chart, "marks", None) for chart in found.charts()] == [
        {},
        {"noop": "the server's rate"},
    ]


def test_others_on_the_core_are_named_in_the_report() -> None:
    start = Mark(at=0.0, own=0.0, delayed=0.0, server=0.0, redis=0.0)
    end = Mark(at=10.0, own=6.0, delayed=3.5, server=1.0, redis=1.0)
    disturbed = Consumed(
        started=start, ended=end, batches=[DoneBatch("s", 5.0, ["1"])], counters={}
    )
    (caveat,) = throughput_of(throughput_round(disturbed)).caveats()
    assert "Other processes had the consumers' core for up to 35%" in caveat
    assert "bottleneck" not in caveat


def test_a_run_is_checked_against_what_was_published() -> None:
    check("noop", published(), consumed())
    cut = consumed()
    cut.batches.pop()
    with pytest.raises(CountsWrong, match="1 lost"):
        check("noop", published(), cut)


@pytest.mark.parametrize(
    "counters",
    [
        {"processed": COUNT - 1},
        {"duplicates": 1},
        {"dead_letters": 1},
        {"unknown": COUNT},
        {"rewinds": 1},
    ],
)
def test_records_that_passed_without_being_processed_show_no_figure(
    counters: dict[str, int],
) -> None:
    with pytest.raises(CountsWrong, match="no figure"):
        check("noop", published(), consumed(**counters))
