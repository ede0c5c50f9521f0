"""What is made of the batches of several workers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamproc_benchmarks.measurement import Mark
from streamproc_benchmarks.scaling import Scaling, ScalingPlan, ScalingRound
from streamproc_benchmarks.scaling_run import places
from streamproc_benchmarks.scaling_turns import evaluated
from streamproc_benchmarks.scaling_worker import Account, Committed, TakenTurn
from streamproc_benchmarks.verification import CountsWrong
from tests.benchmarks.running import run

PLAN = ScalingPlan(
    processor="fraud", workers=2, records=1_000, rounds=2, turn=1.0, shards=8, seed=1, limit=60.0
)
TURNS = 6


def clocks(at: float, worked: float, busy: float) -> Mark:
    """Return the clocks of a worker on a core of which servers take a tenth while it works."""
    own, taken = worked * busy, worked * 0.1
    return Mark(at=at, own=own, delayed=taken, server=taken, redis=taken)


def account(
    every: float, *, size: int = 10, busy: float = 0.8, first: float = 0.0, until: float = 7.0
) -> Account:
    """Return six turns of 1 s every 3 s, and batches of so many seconds of them, to the end.

    Args:
        every: seconds of work between commits.
        size: records of a batch.
        busy: share of a turn in which the worker runs.
        first: seconds of work before the first batch.
        until: seconds of work after which it has none; the turns are over after 6.
    """

    def moment(worked: float) -> float:
        whole = min(int(worked), TURNS)
        return 100.0 + 3.0 * whole + (worked - whole)

    turns = [
        TakenTurn(clocks(100.0 + 3.0 * n, float(n), busy), clocks(101.0 + 3.0 * n, n + 1.0, busy))
        for n in range(TURNS)
    ]
    ends = [first + every * (n + 1) for n in range(int((until - first) / every + 1e-9))]
    batches = [
        Committed(moment(end - every), moment(end), "shard", [str(n)] * size)
        for n, end in enumerate(ends)
    ]
    return Account(turns, 100.0 + 3.0 * TURNS, batches)


def figures_of(*workers: Account, beside: Account | None = None) -> ScalingRound:
    """Return what a team did, beside another one that always had work."""
    other = account(0.1) if beside is None else beside
    team = len(workers)
    teams = {team: list(workers), team + 1: [other] * (team + 1)}
    return evaluated(teams, {team: [0.01] * TURNS, team + 1: [0.0] * TURNS})[team]


def test_the_rate_is_by_the_seconds_in_turns_and_that_of_all_workers_together() -> None:
    one = figures_of(account(0.1))
    assert one.turns == 4, "the first two are not measured"
    assert one.rate == pytest.approx(100.0)
    assert one.cpu_us == pytest.approx(8_000.0)
    assert one.worker_cores == pytest.approx(0.8)
    assert one.delayed_cores == pytest.approx(0.1)
    assert one.server_cores == pytest.approx(0.2)
    assert one.driver_cores == pytest.approx(0.01)
    two = figures_of(account(0.1), account(0.2))
    assert two.rate == pytest.approx(150.0)
    assert two.worker_cores == pytest.approx(1.6)
    assert two.server_cores == pytest.approx(0.2)


@pytest.mark.parametrize("first", [0.0, 0.123, 0.35, 0.6])
def test_a_batch_under_way_at_the_beginning_and_at_the_end_counts_in_part(first: float) -> None:
    assert figures_of(account(0.7, size=70, first=first, until=7.8)).rate == pytest.approx(100.0)


def test_turns_count_while_every_worker_of_every_team_has_work() -> None:
    idle_later = account(0.1, until=4.55)
    assert figures_of(account(0.1), idle_later).turns == 2
    assert figures_of(account(0.1), idle_later).rate == pytest.approx(200.0)
    assert figures_of(account(0.1), beside=idle_later).turns == 2, "the same for all teams"


def test_a_run_in_which_nobody_was_at_work_long_enough_has_no_figures() -> None:
    with pytest.raises(CountsWrong, match="--records"):
        figures_of(account(0.1, until=2.5))
    with pytest.raises(CountsWrong, match="--records"):
        figures_of(Account(account(0.1).turns, 118.0, []))


def test_workers_change_their_cores_and_servers_keep_off_them_while_there_are_others() -> None:
    assert [places(1, turn, [4, 5]) for turn in range(3)] == [([4], {5}), ([5], {4}), ([4], {5})]
    assert [places(2, turn, [4, 5]) for turn in range(2)] == [([4, 5], {4, 5}), ([5, 4], {4, 5})]
    assert places(2, 1, [1, 2, 3]) == ([2, 3], {1})
    assert places(2, 1, []) == ([], set()), "left to the system"


def ran(
    rate: float,
    workers: int = 1,
    *,
    used: float = 0.9,
    delayed: float | None = 0.05,
    servers: float | None = 0.3,
) -> ScalingRound:
    return ScalingRound(
        turns=4,
        rate=rate,
        cpu_us=70.0,
        worker_cores=workers * used,
        delayed_cores=None if delayed is None else workers * delayed,
        server_cores=servers,
        driver_cores=0.01,
    )


def scaling(one: list[ScalingRound], two: list[ScalingRound], *, apart: bool = True) -> Scaling:
    return Scaling(plan=PLAN, servers_apart=apart, rounds={1: one, 2: two})


def test_two_workers_are_judged_where_the_servers_are_apart() -> None:
    apart = scaling([ran(10.0), ran(20.0)], [ran(19.0, 2), ran(36.0, 2)])
    assert apart.efficiency(2) == pytest.approx([0.95, 0.9])
    (bar,) = apart.bars()
    assert bar.verdict == "met"
    assert apart.caveats() == []


def test_what_others_took_lowers_what_is_judged_and_not_the_efficiency_of_the_rest() -> None:
    found = scaling([ran(10.0, delayed=0.0)], [ran(18.0, 2, delayed=0.04)])
    assert found.efficiency(2) == found.bars()[0].values == pytest.approx([0.9])
    assert found.efficiency_of_the_rest(2) == pytest.approx([0.9 / 0.96])


def test_where_the_servers_take_the_workers_cores_the_report_says_so_and_does_not_judge() -> None:
    together = scaling([ran(10.0)], [ran(17.0, 2)], apart=False)
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
    many = [ran(19.0, 2, servers=servers, delayed=0.04)]
    together = scaling([ran(10.0)], many, apart=False)
    assert together.bars()[0].verdict == verdict
    assert "share the cores" in together.caveats()[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_other_programs_on_the_workers_cores_leave_it_unjudged(workers: int) -> None:
    disturbed = ran(10.0 * workers, workers, used=0.7, delayed=0.3, servers=0.1)
    quiet = ran(10.0 * (3 - workers), 3 - workers)
    found = scaling(*([[disturbed], [quiet]] if workers == 1 else [[quiet], [disturbed]]))
    assert found.bars()[0].verdict == "not judged"
    assert f"of the cores of {workers} workers" in found.caveats()[0]


def test_a_worker_that_waited_is_told() -> None:
    (caveat,) = scaling([ran(10.0)], [ran(17.0, 2, used=0.6, delayed=None)]).caveats()
    assert "something to do for 60% of the time" in caveat


@pytest.mark.process
def test_workers_that_share_a_filled_stream_commit_each_record_once(tmp_path: Path) -> None:
    result = tmp_path / "scaling.json"
    settings = ["-s", "leases.duration=1", "-s", "leases.scan_interval=0.3"]
    small = ["--records", "4000", "--rounds", "1", "--turn", "0.04", "--shards", "4"]
    done = run("scaling", *small, *settings, "--no-bars", "--json", str(result))
    assert done.returncode == 0, done.stderr
    figures = {
        each["name"]: each["values"] for each in msgspec.json.decode(result.read_bytes())["figures"]
    }
    assert figures["scaling.computing.1.rate"][0] > 0
    assert figures["scaling.computing.2.rate"][0] > 0
