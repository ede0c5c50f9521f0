"""Figures and their report, from accounts made by hand."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from streamproc_benchmarks.load import Published
from streamproc_benchmarks.measurement import Bottleneck, Mark
from streamproc_benchmarks.page import make_page
from streamproc_benchmarks.progress import Consumed, DoneBatch
from streamproc_benchmarks.runs import check
from streamproc_benchmarks.tables import bars_table
from streamproc_benchmarks.throughput import Throughput, ThroughputRound, print_throughput
from streamproc_benchmarks.throughput_run import throughput_round
from streamproc_benchmarks.verification import CountsWrong, Verdict
from tests.benchmarks.making import a_report

RATE = 100.0
COUNT = 400
STARTED = 50.0
COUNTERS = {
    "processed": COUNT, "duplicates": 0, "unknown": 0, "dead_letters": 0, "store_errors": 0,
    "rewinds": 0, "emitted": 8,
}  # fmt: skip

CLEAN = Verdict(published=COUNT, consumed=COUNT, lost=0, duplicated=0, reordered=0, unknown=0)


def clocks(at: float, own: float, server: float | None = 0.0) -> Mark:
    return Mark(at=at, own=own, delayed=0.0, server=server, redis=0.0)


def published() -> Published:
    return Published(shards={"s": [str(number) for number in range(COUNT)]}, mean_bytes=405.0)


def consumed(**counters: int) -> Consumed:
    """Each record done by itself, one after another."""
    return Consumed(
        started=clocks(STARTED, 0.0),
        ended=clocks(STARTED + 10, 4.0, server=1.0),
        records=COUNT,
        batches=[DoneBatch("s", STARTED + number / RATE, [str(number)]) for number in range(COUNT)],
        counters=COUNTERS | counters,
    )


def throughput_of(*rounds: ThroughputRound) -> Throughput:
    return Throughput(
        records=COUNT, shards=1, event_bytes={"events": 405.0}, rounds={"noop": list(rounds)}
    )


def test_throughput_by_core_and_by_the_wall_are_both_told() -> None:
    found = throughput_round(consumed(), CLEAN)
    assert found.records_per_cpu_second == pytest.approx(COUNT / 4.0)
    assert found.records_per_second == pytest.approx(COUNT / 10.0)
    assert found.cpu_us_per_record == pytest.approx(4.0 / COUNT * 1e6)
    assert found.bottleneck == "nobody"


def test_a_saturated_server_is_named_in_the_report() -> None:
    slow = Consumed(
        started=clocks(0.0, 0.0),
        ended=clocks(10.0, 3.0, server=9.9),
        records=1,
        batches=[DoneBatch("s", 5.0, ["1"])],
        counters={},
    )
    found = throughput_of(throughput_round(slow, CLEAN))
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
        started=start, ended=end, records=1, batches=[DoneBatch("s", 5.0, ["1"])], counters={}
    )
    (caveat,) = throughput_of(throughput_round(disturbed, CLEAN)).caveats()
    assert "Other processes had the consumers' core for up to 35%" in caveat
    assert "bottleneck" not in caveat


def rounds_of(
    *rates: float,
    cpu: float = 1.0,
    bottleneck: Bottleneck = "consumer",
    delayed: float | None = 0.0,
) -> list[ThroughputRound]:
    """Rounds at some wall rates; `cpu` times as much by CPU time."""
    return [
        ThroughputRound(
            records=COUNT,
            records_per_cpu_second=rate * cpu,
            records_per_second=rate,
            cpu_us_per_record=1e6 / (rate * cpu),
            consumer_share=1.0,
            delayed_share=delayed,
            load_share=0.5,
            bottleneck=bottleneck,
            emitted=0,
            batches=1,
        )
        for rate in rates
    ]


def compared(**rounds: list[ThroughputRound]) -> Throughput:
    named = {name.replace("_", "-"): found for name, found in rounds.items()}
    return Throughput(records=COUNT, shards=1, event_bytes={"events": 405.0}, rounds=named)


def test_every_bar_of_what_took_turns_is_judged_round_by_round() -> None:
    found = compared(
        plain=rounds_of(10, 20),
        typed=rounds_of(100, 200),
        noop=rounds_of(56, 112, cpu=1.5),
        fraud=rounds_of(28, 56),
        inventory=rounds_of(28, 56),
        leased=rounds_of(80, 160),
        async_kinesis=rounds_of(7, 14),
        kcl=rounds_of(50, 100),
    )
    judged = {bar.what: (bar.limit, list(bar.values), bar.verdict) for bar in found.bars()}
    typed, plain = "our fetch and typed decode alone", "aiobotocore and orjson alone"
    approx = pytest.approx
    assert judged == {
        f"no-op worker / {typed}, records/s": (0.55, approx([0.56, 0.56]), "met"),
        f"no-op worker / {typed}, records/CPU s": (0.55, approx([0.84, 0.84]), "met"),
        f"no-op worker / {plain}, records/s": (4.0, approx([5.6, 5.6]), "met"),
        f"no-op worker / {plain}, records/CPU s": (4.0, approx([8.4, 8.4]), "met"),
        "no-op worker / async-kinesis, records/s": (6.0, approx([8, 8]), "met"),
        "no-op worker / async-kinesis, records/CPU s": (6.0, approx([12, 12]), "met"),
        "no-op worker / KCL on Java, records/CPU s": (1.15, approx([1.68, 1.68]), "met"),
        "the same work as KCL / KCL on Java, records/CPU s": (1.7, approx([1.6, 1.6]), "NOT met"),
        "fraud processor / no-op worker, records/s": (0.4, approx([0.5, 0.5]), "met"),
        "fraud processor / no-op worker, records/CPU s": (0.4, approx([1 / 3] * 2), "NOT met"),
        "inventory processor / no-op worker, records/s": (0.6, approx([0.5, 0.5]), "NOT met"),
        "inventory processor / no-op worker, records/CPU s": (
            0.6,
            approx([1 / 3] * 2),
            "NOT met",
        ),
    }


def test_there_is_no_bar_for_whom_nobody_is_there_to_compare_with() -> None:
    assert compared(noop=rounds_of(10)).bars() == []


@pytest.mark.parametrize(
    ("slowed", "why"),
    [
        (
            [*rounds_of(10, 10), *rounds_of(10, bottleneck="server")],
            "the wall rate of typed is the server's",
        ),
        (
            [*rounds_of(10), *rounds_of(10, 10, delayed=0.2)],
            "other processes had the core of typed",
        ),
    ],
)
def test_a_wall_rate_that_is_not_the_consumers_judges_nothing(
    slowed: list[ThroughputRound], why: str
) -> None:
    by_clock, by_core = compared(noop=rounds_of(5, 5, 5), typed=slowed).bars()
    assert (by_clock.unjudged, by_clock.verdict) == (why, "not judged")
    assert (by_core.unjudged, by_core.verdict) == ("", "NOT met")


def test_a_core_lent_to_others_for_few_rounds_does_not_keep_from_judging() -> None:
    typed = [*rounds_of(10, 10), *rounds_of(10, delayed=0.5)]
    assert [bar.unjudged for bar in compared(noop=rounds_of(5, 5, 5), typed=typed).bars()] == [
        "",
        "",
    ]


def test_a_consumer_that_could_not_run_is_named_with_the_reason() -> None:
    found = compared(noop=rounds_of(10))
    found = msgspec.structs.replace(found, not_run={"kcl": "there is no java"})
    assert found.caveats() == ["kcl: NOT run: there is no java"]
    (bar,) = found.bars()
    assert (bar.what, bar.verdict, bar.unjudged) == (
        "no-op worker / KCL on Java, records/CPU s",
        "not judged",
        "kcl was not run",
    )
    out = io.StringIO()
    Console(file=out, width=120).print(bars_table([bar]))
    assert ">= 1.15" in out.getvalue()
    assert "not judged" in make_page({"throughput": a_report(bars=[bar])})


def test_a_run_is_checked_against_what_was_published() -> None:
    check("noop", published(), consumed())
    cut = consumed()
    cut.batches.pop()
    with pytest.raises(CountsWrong, match="1 lost"):
        check("noop", published(), cut)


def test_what_a_peer_loses_is_told_beside_its_figure() -> None:
    cut = consumed()
    cut.batches.append(cut.batches.pop(7))
    cut.batches.append(cut.batches.pop(5))
    cut.batches.append(cut.batches[0])
    del cut.batches[20]
    verdict = check("async-kinesis", published(), cut)
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (1, 1, 2)
    found = Throughput(
        records=COUNT,
        shards=1,
        event_bytes={"events": 405.0},
        rounds={"async-kinesis": [throughput_round(cut, verdict)]},
        peers={"async-kinesis": "async-kinesis 3.0.1"},
    )
    caveats = found.caveats()
    assert "async-kinesis: lost 1 of 400 records, by round" in caveats
    assert "async-kinesis: duplicated 1 of 400 records, by round" in caveats
    assert "async-kinesis: reordered 2 of 400 records, by round" in caveats


def test_a_run_without_a_measured_part_shows_no_figure() -> None:
    few = msgspec.structs.replace(consumed(), records=0)
    with pytest.raises(CountsWrong, match="more records are needed"):
        check("noop", published(), few)


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
