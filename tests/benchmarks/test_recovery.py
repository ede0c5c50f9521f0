"""Recovery over real processes and signals, shortly; and its figures from rounds made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamproc_benchmarks.effects import Effects
from streamproc_benchmarks.lag import Recovered
from streamproc_benchmarks.recovery import Recovery, RecoveryRound, checked
from streamproc_benchmarks.recovery_round import Round
from streamproc_benchmarks.verification import CountsWrong
from tests.benchmarks.running import run


def played(**effects: int) -> Round:
    counts = {"published": 100, "took_effect": 100, "lost": 0, "duplicated": 0, "reordered": 0}
    return Round(
        redis_server="valkey 9",
        shards=["s"],
        took_s=0.1,
        recovered=Recovered(first_commit_s=1.0, back_s=2.0, level=10, peak=500),
        effects=msgspec.convert(counts | effects, Effects),
        redelivered=3,
        sent=900.0,
        at=[-0.1, 0.0, 1.0],
        lag=[10, 10, 500],
    )


def recovery_of(*rounds: RecoveryRound) -> Recovery:
    return Recovery(rate=1_000, shards=1, workers=2, settings={}, rounds={"kill": list(rounds)})


@pytest.mark.parametrize("wrong", ["lost", "duplicated", "reordered"])
def test_a_wrong_effect_shows_no_figure(wrong: str) -> None:
    with pytest.raises(CountsWrong, match=f"1 {wrong}.* no figure is shown"):
        checked("kill", played(**{wrong: 1}))


def test_each_event_has_two_times_and_a_chart() -> None:
    found = recovery_of(checked("kill", played()), checked("kill", played()))
    assert {figure.name: list(figure.values) for figure in found.figures()} == {
        "recovery.kill.first_commit_s": [1.0, 1.0],
        "recovery.kill.back_s": [2.0, 2.0],
    }
    (chart,) = found.charts()
    assert "kill -9 of a worker" in chart.title


def test_a_load_that_was_not_sent_is_said() -> None:
    found = recovery_of(checked("kill", played()))
    assert found.caveats() == [
        "kill -9 of a worker: of the offered 1,000/s only 900/s were sent in a round"
    ]
    assert all(figure.caveat for figure in found.figures())


@pytest.mark.process
def test_a_killed_worker_is_replaced_within_its_lease(tmp_path: Path) -> None:
    done = run(
        *("recovery", "--event", "kill", "--rounds", "1", "--rate", "500", "--shards", "2"),
        *("--settle", "1", "--out", str(tmp_path)),
        *("--set", "leases.duration=1.5", "--set", "leases.scan_interval=0.2"),
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "recovery.json").read_text())
    (one,) = report["result"]["rounds"]["kill"]
    assert len(one["affected"]) == 1
    # The lease of 1.5 s is renewed every 0.6 s: some 0.9 s of it were left at the kill, or more.
    assert 0.5 < one["first_commit_s"] < 30
    assert one["published"] == one["took_effect"] > 500
    assert (one["lost"], one["duplicated"], one["reordered"]) == (0, 0, 0)
    assert one["at"][0] < 0 < one["at"][-1]
    assert one["peak"] in one["lag"]
    assert "kill -9 of a worker" in done.stdout


@pytest.mark.process
def test_an_unknown_event_is_named() -> None:
    done = run("recovery", "--event", "flood")
    assert done.returncode != 0
    assert "flood" in done.stderr
    assert "kill, stop, redis, split, merge" in done.stderr
