"""Report files, and how a command ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import typer
from rich.console import Console

from streamproc.errors import ConfigError
from streamproc_benchmarks import plots
from streamproc_benchmarks.charts import LineChart, Moment, PercentileChart, SpreadChart
from streamproc_benchmarks.output import Output
from streamproc_benchmarks.reportfile import Report, read_report, read_reports, write_report
from tests.benchmarks.making import a_bar, a_report

CHARTS = (
    SpreadChart(title="a", unit="records/s", rows={"noop": [1.0, 2.0]}, marks={"noop": "late"}),
    PercentileChart(title="b", unit="ms", curves={"noop": [(0.5, 1.0)]}, limits={"bar": 2.0}),
    LineChart(title="c", unit="MB", lines={"rss": [(0.0, 1.0)]}, moments=[Moment(0.5, "kill -9")]),
)


def conclude(output: Output, *reports: Report) -> str:
    out = io.StringIO()
    output.conclude(reports, Console(file=out, width=200))
    return out.getvalue()


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = a_report(bars=[a_bar(1.0)], charts=CHARTS, caveats=["slow"])
    write_report(report, tmp_path / "one.json")
    found = read_report(tmp_path / "one.json")
    assert json.loads(bytes(found.result)) == {"rounds": {"noop": [1, 2, 3]}}
    again = tmp_path / "again.json"
    write_report(found, again)
    assert again.read_bytes() == (tmp_path / "one.json").read_bytes()
    assert [type(chart) for chart in found.charts] == [type(chart) for chart in CHARTS]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no report of `streamproc bench`"),
        (b"[]", "no report of `streamproc bench`"),
        (b'{"throughput": {}}', "no report of `streamproc bench`"),
        (b'{"format": 1, "scenario": "idle"}', "no report of `streamproc bench`"),
        (b'{"format": 2}', "a report of format 2, and this version reads format 1"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read: No such file"):
        read_reports(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="there is no report in this directory"):
        read_reports(tmp_path)


def test_two_reports_of_one_scenario_in_a_directory_are_refused(tmp_path: Path) -> None:
    write_report(a_report(), tmp_path / "a.json")
    write_report(a_report(), tmp_path / "b.json")
    with pytest.raises(ConfigError, match=r"b\.json: a second report of throughput"):
        read_reports(tmp_path)


def test_the_page_is_about_all_reports_of_the_directory(tmp_path: Path) -> None:
    conclude(Output(tmp_path / "new", None), a_report(scenario="idle"))
    conclude(Output(tmp_path / "new", None), a_report(scenario="latency"))
    page = (tmp_path / "new" / "index.html").read_text()
    assert '<section id="idle">' in page
    assert '<section id="latency">' in page


def test_a_missed_bar_is_an_exit_code_after_the_files_are_written(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    with pytest.raises(typer.Exit) as caught:
        conclude(Output(None, path), a_report(bars=[a_bar(2.0), a_bar(0.9)]))
    assert caught.value.exit_code == 1
    assert len(read_report(path).bars) == 2


def test_a_bar_that_was_met_or_judges_nothing_is_no_failure() -> None:
    bars = [a_bar(1.0), a_bar(0.5, unjudged="the wall rate is the server's")]
    text = conclude(Output(None, None), a_report(bars=bars))
    assert "ours / theirs: not judged: the wall rate is the server's" in text


def test_a_missed_bar_is_only_shown_when_bars_are_not_judged() -> None:
    assert "NOT met" in conclude(Output(None, None, judge=False), a_report(bars=[a_bar(0.9)]))


def test_the_median_decides() -> None:
    assert a_bar(0.5, 1.0, 9.0).verdict == "met"
    assert a_bar(0.5, 0.99, 9.0).verdict == "NOT met"


def test_what_cannot_be_written_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out"):
        Output(tmp_path / "file" / "below", None)
    with pytest.raises(ConfigError, match="--json"):
        Output(None, tmp_path / "none" / "one.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"other\.json: no report"):
        Output(tmp_path, None)
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'streamproc\[bench\]'"):
        Output(tmp_path, None)
