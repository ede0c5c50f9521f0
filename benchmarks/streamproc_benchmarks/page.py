"""The page of a directory of reports: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from streamproc_benchmarks.figures import Verdict
from streamproc_benchmarks.plots import SERIES, draw
from streamproc_benchmarks.reportfile import Report
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.tables import environment_lines, show_limit, show_measured, show_number

__all__ = ["make_page", "write_page"]

_LIGHT: Final = (
    "#0b62a8",
    "#c25708",
    "#14804f",
    "#a83279",
    "#6a4fc4",
    "#8a6d00",
    "#0e7c86",
    "#555",
)
_DARK: Final = ["#6bb5f2", "#f2994a", "#55c991", "#ea8cc4", "#ab97f5", "#d9b93b", "#5bc7d1", "#aaa"]


def _variables(colours: Sequence[str], rest: str) -> str:
    return rest + "".join(f"--series-{at}:{colours[at]};" for at in range(SERIES))


_STYLE: Final = (
    ":root{color-scheme:light dark;"
    + _variables(
        _LIGHT,
        "--ink:#1c2024;--quiet:#5b6470;--grid:#d8dce1;--paper:#fff;--panel:#f5f6f8;"
        "--limit:#b3261e;--good:#14743f;",
    )
    + "}@media(prefers-color-scheme:dark){:root{"
    + _variables(
        _DARK,
        "--ink:#e4e7eb;--quiet:#9aa4b0;--grid:#39414b;--paper:#15181c;--panel:#1e2328;"
        "--limit:#ff8a80;--good:#6fd39b;",
    )
    + """}}
body{max-width:60rem;margin:2rem auto;padding:0 1rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem}h2{margin-top:3rem;border-bottom:1px solid var(--grid)}h3{font-size:1rem}
.quiet,figcaption,dt{color:var(--quiet)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid var(--grid)}
th:first-child,td:first-child{text-align:left;padding-left:0}
.bars :is(th,td):nth-child(2){text-align:left;min-width:14rem}
.bars :is(th,td):not(:nth-child(2)){white-space:nowrap}
th{color:var(--quiet);font-weight:500}
.met{color:var(--good)}.missed{color:var(--limit);font-weight:700}
.caveat{color:var(--limit);font-size:.85em}
.caveats{border-left:3px solid var(--limit);padding-left:2rem}
pre,code{background:var(--panel);border-radius:4px}
code{padding:.1rem .3rem;overflow-wrap:anywhere}
pre{padding:.8rem;overflow-x:auto;font-size:12px;line-height:1.35}
figure{margin:1.5rem 0}figcaption{margin-bottom:.3rem}
svg{max-width:100%;height:auto}svg text{font-family:system-ui,sans-serif!important}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dd{margin:0}
"""
)


_CLASSES: Final[dict[Verdict, str]] = {"met": "met", "NOT met": "missed", "not judged": "quiet"}


def write_page(reports: Mapping[str, Report], path: Path) -> None:
    """Write the page."""
    path.write_text(make_page(reports), encoding="utf-8")


def make_page(reports: Mapping[str, Report]) -> str:
    """Return HTML that shows every report: bars, what was printed, charts, figures, environment.

    It is built as a tree, so that nothing that stands in a report can be taken for markup.
    """
    page = Element("html", lang="en")
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width,initial-scale=1")
    SubElement(head, "title").text = "streamproc bench"
    SubElement(head, "style").text = _STYLE
    body = SubElement(page, "body")
    _text(body, "h1", "streamproc bench")
    _bars(body, reports)
    for scenario, report in reports.items():
        body.append(_section(scenario, report))
    return "<!DOCTYPE html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _bars(body: Element, reports: Mapping[str, Report]) -> None:
    _text(body, "h2", "Bars")
    if not any(report.bars for report in reports.values()):
        _text(body, "p", "No bar is set for what was measured here.")
        return
    columns = ("scenario", "what", "bar", "measured: median (least - greatest)", "")
    table = _table(body, columns, "scroll bars")
    for scenario, report in reports.items():
        for bar in report.bars:
            measured = show_measured(bar)
            row = _row(table, (scenario, bar.what, show_limit(bar), measured))
            if bar.unjudged:
                _text(row[1], "div", bar.unjudged, "caveat")
            _text(row, "td", bar.verdict, _CLASSES[bar.verdict])


def _section(scenario: str, report: Report) -> Element:
    section = Element("section", id=scenario)
    _text(section, "h2", scenario)
    command = SubElement(section, "p")
    SubElement(command, "code").text = " ".join(report.command)
    _text(section, "p", f"ended {report.ended}; all of it is in {scenario}.json", "quiet")
    _list(section, report.caveats, "caveats")
    _text(section, "pre", report.printed.strip("\n"))
    for number, chart in enumerate(report.charts):
        figure = SubElement(section, "figure")
        SubElement(figure, "figcaption").text = chart.title
        figure.append(draw(chart, f"{scenario}-{number}"))
    _figures(section, report)
    _circumstances(section, report)
    return section


def _figures(section: Element, report: Report) -> None:
    _text(section, "h3", "Figures")
    columns = ("figure", "unit", "better", "median", "least", "greatest", "rounds")
    table = _table(section, columns)
    for figure in report.figures:
        found = spread(figure.values)
        measured = [show_number(value) for value in (found.median, found.least, found.greatest)]
        row = (figure.name, figure.unit, figure.better, *measured, str(found.rounds))
        cells = _row(table, row)
        if figure.caveat:
            SubElement(cells[0], "br")
            _text(cells[0], "span", figure.caveat, "caveat")


def _circumstances(section: Element, report: Report) -> None:
    _text(section, "h3", "Measured on")
    _list(section, environment_lines(report.environment, report.seed), "quiet")
    if report.settings:
        terms = SubElement(section, "dl")
        for key, value in report.settings.items():
            _text(terms, "dt", key)
            _text(terms, "dd", repr(value))


def _table(parent: Element, columns: Iterable[str], kind: str = "scroll") -> Element:
    table = SubElement(SubElement(parent, "div", {"class": kind}), "table")
    head = SubElement(SubElement(table, "thead"), "tr")
    for name in columns:
        SubElement(head, "th", scope="col").text = name
    return SubElement(table, "tbody")


def _row(table: Element, cells: Iterable[str]) -> Element:
    row = SubElement(table, "tr")
    for cell in cells:
        SubElement(row, "td").text = cell
    return row


def _list(parent: Element, lines: Iterable[str], kind: str) -> None:
    lines = list(lines)
    if lines:
        listed = SubElement(parent, "ul", {"class": kind})
        for line in lines:
            SubElement(listed, "li").text = line


def _text(parent: Element, tag: str, text: str, kind: str = "") -> Element:
    element = SubElement(parent, tag, {"class": kind} if kind else {})
    element.text = text
    return element
