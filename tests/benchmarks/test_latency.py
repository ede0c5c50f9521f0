"""Latencies from accounts made by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamproc_benchmarks.figures import Bar
from streamproc_benchmarks.latency import Capacity, Latency, LatencyRound, print_latency
from streamproc_benchmarks.latency_run import latency_round
from streamproc_benchmarks.measurement import Mark
from streamproc_benchmarks.open_loop import Offered, ShardLoad
from streamproc_benchmarks.progress import Consumed, DoneBatch

RATE = 100.0
COUNT = 400
STARTED = 50.0
GROUP = 4  # records due together, in two shards


def offered(sent_after: float = COUNT / RATE) -> Offered:
    groups = [(STARTED + number / RATE, GROUP // 2) for number in range(0, COUNT, GROUP)]
    return Offered(
        rate=RATE,
        count=COUNT,
        started=STARTED,
        sent=STARTED + sent_after,
        late=0.001,
        shards={shard: ShardLoad(first="1", groups=groups) for shard in ("a", "b")},
    )


def consumed(delay: float, stretch: float = 1.0, batch: int = 5) -> Consumed:
    """Each batch done `delay` seconds after its last record was due, time stretched by a factor."""
    batches = [
        DoneBatch(shard, STARTED + stretch * 2 * last / RATE + delay, ["1"] * batch)
        for last in range(batch - 1, COUNT // 2, batch)
        for shard in ("a", "b")
    ]
    return Consumed(
        started=Mark(at=STARTED, own=0.0, delayed=0.0, server=0.0, redis=0.0),
        ended=Mark(at=STARTED + 10, own=4.0, delayed=0.0, server=1.0, redis=0.0),
        records=sum(len(batch.sequences) for batch in batches),
        batches=batches,
        counters={},
    )


def latency_of(*rounds: LatencyRound, share: float | None = 0.5) -> Latency:
    return Latency(
        seconds=4.0,
        warm_up=1.0,
        shards=2,
        poll_interval=0.25,
        share=share,
        capacity={},
        rounds={"noop": list(rounds)},
    )


def bars(*rounds: LatencyRound, share: float | None = 0.5) -> list[Bar]:
    return latency_of(*rounds, share=share).bars()


def test_latency_counts_from_when_a_record_was_due() -> None:
    # Two are due every 40 ms in a shard, and done five by five, 250 ms after the fifth's even share
    # of time: three to five groups of two meet in a batch, so latencies are 250 to 350 ms.
    found = latency_round(offered(), consumed(delay=0.25), warm_up=0.0)
    assert found.samples == COUNT
    assert found.max_ms == pytest.approx(350, rel=2e-3)
    assert found.p50_ms == pytest.approx(290, rel=2e-3)


def test_the_warm_up_is_left_out() -> None:
    assert latency_round(offered(), consumed(delay=0.25), warm_up=1.0).samples == 300


def test_a_rate_that_was_kept_is_reached() -> None:
    found = latency_round(offered(), consumed(delay=0.25), warm_up=1.0)
    assert found.reached
    assert (found.offered, found.sent) == (RATE, RATE)
    assert found.achieved == pytest.approx(400 / 4.23)
    assert latency_of(found).caveats() == []


def test_a_rate_that_was_not_reached_is_said_beside_the_offered_one() -> None:
    found = latency_round(offered(), consumed(delay=0.0, stretch=2.0), warm_up=1.0)
    assert not found.reached
    assert found.achieved == pytest.approx(50, rel=0.01)
    # Nothing is left out: the last batch is done when it would be due at half the rate.
    assert found.max_ms == pytest.approx(4_080, rel=2e-3)
    (caveat,) = latency_of(found).caveats()
    assert caveat.startswith("noop: the offered 100/s was NOT reached in 1 of 1 rounds")
    assert "achieved 50/s" in caveat
    assert all(figure.caveat for figure in latency_of(found).figures())


def test_a_generator_that_is_late_shows_in_what_was_sent_and_in_the_latency() -> None:
    found = latency_round(offered(sent_after=8.0), consumed(delay=3.0), warm_up=1.0)
    assert found.sent == pytest.approx(50)
    assert found.p50_ms > 3_000
    assert not found.reached


def test_the_bars_are_the_poll_interval_and_little_more() -> None:
    good = latency_round(offered(), consumed(delay=0.1), warm_up=1.0)
    late = latency_round(offered(), consumed(delay=0.3), warm_up=1.0)
    p50, p99 = bars(good)
    assert (p50.limit, p99.limit) == (270, 350)
    assert [bar.is_met for bar in bars(good)] == [True, True]
    assert [bar.is_met for bar in bars(late)] == [False, False]
    assert bars(good, share=None) == [], "at another rate than half the capacity there is no bar"


def test_what_the_generator_did_not_send_judges_nobody() -> None:
    behind = latency_round(offered(sent_after=5.0), consumed(delay=0.3), warm_up=1.0)
    assert [bar.verdict for bar in bars(behind)] == ["not judged"] * 2
    assert "sent only 80/s in 1 of 1 rounds" in bars(behind)[0].unjudged


def test_rounds_are_merged_into_one_curve() -> None:
    quick = latency_round(offered(), consumed(delay=0.1), warm_up=1.0)
    slow = latency_round(offered(), consumed(delay=0.3), warm_up=1.0)
    curve = dict(latency_of(quick, slow).percentiles("noop"))
    assert curve[100.0] == pytest.approx(slow.max_ms)
    assert quick.max_ms <= curve[50.0] <= slow.max_ms


def test_a_capacity_that_is_the_servers_is_called_that() -> None:
    found = latency_of(latency_round(offered(), consumed(delay=0.1), warm_up=1.0))
    found.capacity["noop"] = [
        Capacity(records_per_second=1.0, bottleneck=who) for who in ("server", "consumer")
    ]
    (caveat,) = found.caveats()
    assert "the bottleneck in 1 of 2 runs" in caveat
    assert [bar.verdict for bar in found.bars()] == ["not judged", "not judged"]
    out = io.StringIO()
    print_latency(found, Console(file=out, width=120))
    assert "the server's" in out.getvalue()
