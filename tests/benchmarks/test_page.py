"""The page: well-formed, nothing loaded, nothing taken for markup."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc_benchmarks.charts import Chart, LineChart, Moment, PercentileChart, SpreadChart
from streamproc_benchmarks.page import make_page
from tests.benchmarks.making import a_bar, a_figure, a_report

SPREAD = SpreadChart(
    title="per core",
    unit="records/s",
    rows={"noop": [150e3, 151e3], "plain": [30e3, 33e3]},
    marks={"noop": "the server's rate"},
)
PERCENTILES = PercentileChart(
    title="latency",
    unit="ms",
    curves={"noop": [(0.0, 1.0), (0.5, 2.0), (0.999, 9.0)], "fraud": [(0.5, 3.0)]},
    limits={"bar of p99": 8.0},
)
LINES = LineChart(
    title="lag",
    unit="records",
    lines={"round 1": [(-1.0, 0.0), (0.0, 9.0), (3.0, 0.0)]},
    moments=[Moment(0.0, "kill -9")],
    limits={"bound": 7.0},
)
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that each tag is closed, and keeps texts, ids and references."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.loaded: list[str] = []
        self.inside: set[str] = set()
        self.texts: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(text)
        self.close()
        assert self.open == [], "everything is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            assert value is not None
            if key == "id":
                self.ids[value] += 1
            self.inside.update(re.findall(r"url\(#([^)]*)\)", value))
            if key in ("href", "src"):
                (self.inside.add(value[1:]) if value[0] == "#" else self.loaded.append(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(*charts: Chart) -> Page:
    report = a_report(charts=charts, bars=[a_bar(0.9)])
    return Page(make_page({"throughput": report, "latency": report}))


@pytest.mark.parametrize("chart", [SPREAD, PERCENTILES, LINES])
def test_a_chart_says_what_it_shows_in_text(chart: Chart) -> None:
    page = page_of(chart)
    assert page.tags["svg"] == 2
    texts = {text.strip() for text in page.texts}
    assert {chart.title, chart.unit} <= texts
    match chart:
        case SpreadChart():
            assert {"noop", "plain", "150.5k  (the server's rate)", "31.5k"} <= texts
        case PercentileChart():
            assert {"noop", "fraud", "bar of p99", "50", "90", "99", "99.9"} <= texts
        case LineChart():
            assert {"kill -9", "bound", "seconds"} <= texts


def test_it_loads_nothing_and_each_id_is_one_places() -> None:
    page = page_of(SPREAD, PERCENTILES, LINES)
    assert page.loaded == []
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == 0
    assert set(page.ids.values()) == {1}
    assert page.inside <= set(page.ids), "what is referred to is there"


def test_colours_are_the_style_sheets_alone() -> None:
    text = make_page({"throughput": a_report(charts=[SPREAD, PERCENTILES, LINES])})
    drawn = text[text.index("<svg") :]
    assert "var(--series-0)" in drawn
    assert "prefers-color-scheme:dark" in text
    assert re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{6})", drawn) == []


def test_missed_and_unjudged_bars_and_caveats_are_shown() -> None:
    report = a_report(
        a_figure(1.0, caveat="the wall rate is theirs"),
        bars=[a_bar(0.9), a_bar(0.9, unjudged="the rate is the server's"), a_bar(1.1)],
        caveats=["kcl: NOT run: no JDK"],
    )
    texts = Page(make_page({"throughput": report})).texts
    assert [text for text in texts if text in ("met", "NOT met", "not judged")] == [
        "NOT met",
        "not judged",
        "met",
    ]
    assert {
        "the rate is the server's",
        "the wall rate is theirs",
        "kcl: NOT run: no JDK",
    } <= set(texts)


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_no_text_of_a_report_is_taken_for_markup(text: str) -> None:
    hostile = f'</td><script>&"{text}'
    report = a_report(
        a_figure(1.0, name=hostile, caveat=hostile),
        caveats=[hostile],
        command=["streamproc", hostile],
        settings={hostile: hostile},
        printed=hostile,
        charts=[SpreadChart(title=hostile, unit="s", rows={"noop": [1.0]})],
    )
    page = Page(make_page({"throughput": report}))
    assert page.tags["script"] == 0
    assert page.texts.count(hostile) >= 5
