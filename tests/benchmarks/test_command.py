"""The command as users run it, shortly: real processes, real servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamproc_benchmarks.histogram import LatencyHistogram
from streamproc_benchmarks.reportfile import write_report
from tests.benchmarks.making import a_figure, a_report
from tests.benchmarks.running import run


@pytest.mark.process
def test_windows_are_measured_step_by_step() -> None:
    done = run("windows", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "12 exact features of card and terminal" in done.stdout


@pytest.mark.process
def test_quiet_shards_are_all_polled(tmp_path: Path) -> None:
    path = tmp_path / "idle.json"
    done = run(
        *("idle", "--shards", "20", "--settle", "2", "--seconds", "3", "--json", str(path)),
        *("--set", "read.idle_poll_interval=0.5"),
    )
    assert done.returncode == 0, done.stderr
    assert "A worker with 20 quiet shards" in done.stdout
    cost: dict[str, Any] = json.loads(path.read_text())["result"]
    assert (cost["shards"], cost["unpolled"], cost["interval"]) == (20, 0, 0.5)
    assert 20 <= cost["polls_per_second"] <= 45
    assert 0.4 < cost["gap_p50"] < 0.8


@pytest.mark.process
def test_both_layouts_of_dedupe_marks_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "dedupe.json"
    done = run("dedupe", "--ids", "20000", "--batch", "500", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "20,000 ids in batches of 500" in done.stdout
    sets, keys = json.loads(path.read_text())["result"]["costs"]
    assert (sets["layout"], keys["layout"]) == ("sets", "keys")
    assert len(sets["check_ms"]) == len(keys["commit_ms"]) == 40
    assert 16 < sets["mb_per_million"] < keys["mb_per_million"] < 250


@pytest.mark.process
def test_a_short_run_reports_what_was_measured(tmp_path: Path) -> None:
    done = run(
        *("--records", "2000", "--rate", "500", "--seconds", "1", "--warm-up", "0.2"),
        *("--rounds", "1", "--shards", "2", "--consumer", "noop"),
        *("--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "throughput.json").read_text())
    assert report["result"]["rounds"].keys() == {"noop"}
    (one,) = report["result"]["rounds"]["noop"]
    assert report["result"]["records"] == 2_000
    assert 0 < one["records"] <= 2_000, "those between warm-up and end"
    assert one["records_per_cpu_second"] > 0
    waits = json.loads((tmp_path / "latency.json").read_text())["result"]
    assert waits["capacity"] == {}, "the rate was given"
    (one,) = waits["rounds"]["noop"]
    assert one["offered"] == 500
    assert one["samples"] == 400
    assert 0 < one["p50_ms"] <= one["p99_ms"] <= one["max_ms"]
    assert LatencyHistogram.decode(one["histogram"]).count == 400
    assert report["seed"] == 1
    assert "2000" in report["command"]
    assert report["environment"]["libraries"]["msgspec"]
    assert "Throughput: 2,000 records" in done.stdout
    assert "offered k/s" in done.stdout


@pytest.mark.process
def test_without_a_rate_half_the_measured_capacity_is_offered(tmp_path: Path) -> None:
    done = run(
        *("--records", "4000", "--seconds", "1", "--warm-up", "0.2", "--rounds", "1"),
        *("--shards", "2", "--consumer", "noop", "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "latency.json").read_text())
    (capacity,), (one,) = found["result"]["capacity"]["noop"], found["result"]["rounds"]["noop"]
    assert one["offered"] == pytest.approx(capacity["records_per_second"] / 2)
    assert [bar["limit"] for bar in found["bars"]] == [270, 350]


@pytest.mark.process
def test_a_throughput_run_leaves_a_page(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    done = run(
        *("throughput", "--records", "2000", "--rounds", "1", "--shards", "2", "--no-bars"),
        *("--consumer", "plain", "--consumer", "noop", "--out", str(directory)),
    )
    assert done.returncode == 0, done.stderr
    assert "no-op worker / aiobotocore and orjson alone" in done.stdout
    report: dict[str, Any] = json.loads((directory / "throughput.json").read_text())
    assert [bar["limit"] for bar in report["bars"]] == [4.0, 4.0]
    assert {figure["name"] for figure in report["figures"]} >= {
        "throughput.plain.records_per_second",
        "throughput.noop.records_per_cpu_second",
    }
    page = (directory / "index.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("</html>") == 1


def test_the_exit_code_tells_how_two_reports_compare(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after.json"
    before.mkdir()
    write_report(a_report(a_figure(100, 101)), before / "throughput.json")
    write_report(a_report(a_figure(50, 51)), after)
    worse = run("compare", str(before), str(after), "--fail-over", "5%")
    assert (worse.returncode, worse.stderr) == (1, "")
    assert "-49.8%" in worse.stdout
    better = run("compare", str(after), str(before), "--fail-over", "0.05")
    assert (better.returncode, better.stderr) == (0, "")
    absent = run("compare", str(before), str(tmp_path / "none.json"))
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "none.json: cannot be read" in absent.stderr


@pytest.mark.process
def test_an_unknown_consumer_is_named() -> None:
    done = run("throughput", "--consumer", "nop")
    assert done.returncode != 0
    assert "nop" in done.stderr
    assert "noop" in done.stderr


@pytest.mark.process
def test_a_run_that_is_cut_off_shows_no_figure(tmp_path: Path) -> None:
    # The plain loop takes more CPU time than this for so many records on any machine.
    path = tmp_path / "report.json"
    done = run(
        *("throughput", "--records", "30000", "--rounds", "1", "--shards", "1"),
        *("--consumer", "plain", "--limit", "0.2", "--json", str(path)),
    )
    assert done.returncode == 1
    assert "no figure is shown" in done.stderr
    assert " 0 lost" not in done.stderr
    assert not path.exists()
