"""Soak over the real command, shortly; and its bars from results made by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from streamproc_benchmarks.effects import Effects
from streamproc_benchmarks.memory import Growth, Memory
from streamproc_benchmarks.overload import Overload, decoded_share
from streamproc_benchmarks.replay import Replay
from streamproc_benchmarks.soak import require_effects
from streamproc_benchmarks.verification import CountsWrong
from tests.benchmarks.running import run

EFFECTS = Effects(published=100, took_effect=80, lost=0, duplicated=0, reordered=0)
MEMORY = Memory(
    at=[0.0, 1.0, 2.0, 3.0],
    rss_mb=[100.0, 180.0, 190.0, 185.0],
    published=[0, 40, 80, 100],
    committed=[0, 20, 40, 80],
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def overload(
    seconds: float = 300.0, bound: float = 200.0, grown: float = 0.5, sent: float = 1_000.0
) -> Overload:
    return Overload(
        capacity=100.0,
        offered=1_000.0,
        sent=sent,
        committed_rate=99.0,
        seconds=seconds,
        base_mb=100.0,
        prefetch_bytes=67_108_864,
        decoded=1.1,
        bound_mb=bound,
        effects=EFFECTS,
        memory=MEMORY,
        growth=Growth(grown_mb=grown, scatter_mb=2.0),
        server_mb=500.0,
    )


def replay(hours: float = 8.0, grown: float = 0.5, starved: float = 0.0) -> Replay:
    return Replay(
        hours=hours,
        events=80,
        took=4.0,
        starved=starved,
        worker_share=0.9,
        server_share=0.5,
        collections=[9, 3, 1],
        effects=EFFECTS,
        memory=MEMORY,
        growth=Growth(grown_mb=grown, scatter_mb=2.0),
        server_mb=500.0,
    )


def met(result: Overload | Replay) -> list[bool]:
    return [bar.is_met for bar in result.bars()]


def test_overload_is_judged_by_its_bound_and_by_being_flat() -> None:
    assert met(overload()) == [True, True]
    assert met(overload(bound=189.0)) == [False, True]
    assert met(overload(grown=2.1)) == [True, False]


def test_an_overload_that_was_not_sent_is_not_judged() -> None:
    bars = overload(grown=2.1, sent=900.0).bars()
    assert [bar.verdict for bar in bars] == ["not judged"] * 2
    assert overload(sent=900.0).caveats() == ["Of the offered 1,000/s only 900/s were sent."]


def test_decoded_records_take_about_what_they_take_on_the_wire() -> None:
    assert 0.9 < decoded_share(seed=1) < 1.2


def test_a_replay_is_judged_by_being_flat() -> None:
    assert met(replay()) == [True]
    assert met(replay(grown=2.1)) == [False]


def test_a_short_soak_is_not_judged_and_says_so() -> None:
    assert met(overload(seconds=10.0)) == met(replay(hours=0.1)) == []
    assert "bars are set for 300 s" in overload(seconds=10.0).caveats()[-1]
    assert "bar is set for 8 h" in replay(hours=0.1).caveats()[-1]


def test_a_load_that_set_the_pace_is_called_that() -> None:
    assert replay().caveats() == []
    (caveat,) = replay(starved=0.5).caveats()
    assert "the rate is not the worker's" in caveat
    assert all(figure.caveat == caveat for figure in replay(starved=0.5).figures())


@pytest.mark.parametrize(
    ("effects", "committed"),
    [
        (Effects(published=9, took_effect=9, lost=1, duplicated=0, reordered=0), 9),
        (Effects(published=9, took_effect=9, lost=0, duplicated=1, reordered=0), 9),
        (Effects(published=9, took_effect=9, lost=0, duplicated=0, reordered=1), 9),
        (Effects(published=9, took_effect=8, lost=0, duplicated=0, reordered=0), 9),
    ],
)
def test_a_committed_record_without_its_one_effect_shows_no_figure(
    effects: Effects, committed: int
) -> None:
    require_effects("soak", EFFECTS, 80)
    with pytest.raises(CountsWrong, match="no figure"):
        require_effects("soak", effects, committed)


@linux
@pytest.mark.process
def test_a_worker_over_its_capacity_falls_behind_and_loses_nothing(tmp_path: Path) -> None:
    done = run(
        *("soak", "--part", "overload", "--seconds", "3", "--capacity-seconds", "1.5"),
        *("--service", "0.1", "--shards", "2", "--out", str(tmp_path)),
        *("--set", "read.prefetch_bytes=500000", "--set", "batch.records=100"),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "overload.json").read_text())["result"]
    assert found["offered"] == pytest.approx(10 * found["capacity"])
    assert found["effects"]["published"] > found["effects"]["took_effect"] > 0
    memory = found["memory"]
    assert found["base_mb"] < max(memory["rss_mb"]) <= found["bound_mb"]
    assert len({len(column) for column in memory.values()}) == 1
    assert memory["committed"] == sorted(memory["committed"])
    assert "none was lost" in done.stdout


@linux
@pytest.mark.process
def test_minutes_of_events_are_replayed_at_once(tmp_path: Path) -> None:
    done = run(
        *("soak", "--part", "replay", "--hours", "0.05", "--ahead", "20000"),
        *("--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "replay.json").read_text())["result"]
    assert found["events"] == 90_000
    assert found["effects"]["took_effect"] == found["memory"]["committed"][-1] == 90_000
    assert len(found["collections"]) == 3
    backlogs = [
        published - committed
        for published, committed in zip(
            found["memory"]["published"], found["memory"]["committed"], strict=True
        )
    ]
    assert max(backlogs) <= 20_000 + 500, "the stream is filled while it is read"
