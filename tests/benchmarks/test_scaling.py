"""What is made of the batches of several workers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamproc_benchmarks.scaling import Scaling, ScalingPlan, ScalingRound, _evaluated
from streamproc_benchmarks.scaling_worker import Committed
from tests.benchmarks.running import run

PLAN = ScalingPlan(
    processor="fraud", workers=2, records=1_000, rounds=2, shards=8, seed=1, limit=60.0
)


def batches(count: int, every: float, cpu: float, start: float = 100.0) -> list[Committed]:
    """Return batches of 10 records, each `every` seconds after the one before."""
    return [
        Committed(start + n * every, 5.0 + n * cpu, "shard", [str(n)] * 10)
        for n in range(1, count + 1)
    ]


def ran(
    rate: float, workers: int = 1, used: float = 0.95, servers: float | None = 0.3
) -> ScalingRound:
    return ScalingRound(rate=rate, cpu_us=70.0, worker_cores=workers * used, server_cores=servers)


def test_the_rate_is_that_of_all_workers_together() -> None:
    one = _evaluated([batches(100, 0.1, 0.05)], [])
    assert one.rate == pytest.approx(100.0)
    assert one.cpu_us == pytest.approx(5_000.0)
    assert one.worker_cores == pytest.approx(0.5)
    assert one.server_cores is None
    two = _evaluated([batches(100, 0.1, 0.05), batches(100, 0.1, 0.05, 100.05)], [])
    assert two.rate == pytest.approx(200.0, rel=0.02)
    assert two.worker_cores == pytest.approx(1.0, rel=0.05)


def test_the_clocks_leave_out_how_it_began_and_ended() -> None:
    slow_start = [Committed(0.0, 0.0, "shard", ["0"] * 10), *batches(98, 0.1, 0.05)]
    slow_end = [*slow_start, Committed(1_000.0, 9.0, "shard", ["9"] * 10)]
    assert _evaluated([slow_end], []).rate == pytest.approx(100.0)


def test_the_servers_cpu_time_is_that_within_the_window() -> None:
    samples = [(90.0 + n / 10, n * 0.02) for n in range(300)]
    assert _evaluated([batches(100, 0.1, 0.05)], samples).server_cores == pytest.approx(0.2, 0.05)


def test_two_workers_are_judged_where_the_servers_are_apart() -> None:
    rounds = {1: [ran(10.0), ran(20.0)], 2: [ran(19.0, 2), ran(36.0, 2)]}
    apart = Scaling(plan=PLAN, servers_apart=True, rounds=rounds)
    assert apart.efficiency(2) == pytest.approx([0.95, 0.9])
    (bar,) = apart.bars()
    assert bar.verdict == "met"
    assert apart.caveats() == []


def test_where_the_servers_take_the_workers_cores_the_report_says_so_and_does_not_judge() -> None:
    rounds = {1: [ran(10.0)], 2: [ran(17.0, 2)]}
    together = Scaling(plan=PLAN, servers_apart=False, rounds=rounds)
    (bar,) = together.bars()
    assert bar.verdict == "not judged"
    assert "30% of a core" in together.caveats()[0]
    assert all(figure.caveat for figure in together.figures())


@pytest.mark.parametrize(
    ("servers", "verdict"), [(0.09, "met"), (0.11, "not judged"), (None, "not judged")]
)
def test_servers_on_the_workers_cores_that_take_next_to_nothing_leave_it_judged(
    servers: float | None, verdict: str
) -> None:
    rounds = {1: [ran(10.0)], 2: [ran(19.0, 2, servers=servers)]}
    together = Scaling(plan=PLAN, servers_apart=False, rounds=rounds)
    assert together.bars()[0].verdict == verdict
    assert "share the cores" in together.caveats()[0]


def test_a_worker_that_waited_is_told() -> None:
    rounds = {1: [ran(10.0)], 2: [ran(17.0, 2, used=0.6)]}
    (caveat,) = Scaling(plan=PLAN, servers_apart=True, rounds=rounds).caveats()
    assert "60% of its core" in caveat


@pytest.mark.process
def test_workers_that_share_a_filled_stream_commit_each_record_once(tmp_path: Path) -> None:
    result = tmp_path / "scaling.json"
    settings = ["-s", "leases.duration=1", "-s", "leases.scan_interval=0.3"]
    small = ["--processor", "noop", "--records", "1000", "--rounds", "1", "--shards", "4"]
    done = run("scaling", *small, *settings, "--no-bars", "--json", str(result))
    assert done.returncode == 0, done.stderr
    figures = {
        each["name"]: each["values"] for each in msgspec.json.decode(result.read_bytes())["figures"]
    }
    assert figures["scaling.noop.1.rate"][0] > 0
    assert figures["scaling.noop.2.rate"][0] > 0
