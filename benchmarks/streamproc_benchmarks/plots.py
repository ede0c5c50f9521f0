"""Charts as inline SVG: Matplotlib draws, the page's style sheet colours."""

from __future__ import annotations

import importlib.util
import io
import math
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from streamproc.errors import ConfigError
from streamproc_benchmarks.charts import Chart, LineChart, Moment, PercentileChart, SpreadChart
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.tables import show_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SERIES", "draw", "require_matplotlib"]

SERIES: Final = 8
"""Colours that a page's style sheet defines, ``--series-0`` and so on."""

# Matplotlib writes colours into the file; these stand for variables of the style sheet, so that
# one drawing is read on a light and on a dark page.
_INK: Final = "#0a0b01"
_QUIET: Final = "#0a0b02"
_GRID: Final = "#0a0b03"
_LIMIT: Final = "#0a0b04"
_PAPER: Final = "#0a0b05"
_COLOURS: Final = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _GRID: "var(--grid)",
    _LIMIT: "var(--limit)",
    _PAPER: "var(--paper)",
    **{f"#0a0c{number:02x}": f"var(--series-{number})" for number in range(SERIES)},
}
_BEHIND_TEXT: Final[Any] = {"facecolor": _PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1}
_STYLES: Final = ("-", "--", "-.", ":")

_WIDTH_IN: Final = 7.6
_ROW_IN: Final = 0.34
_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "streamproc",  # the same chart gives the same file
    "text.parse_math": False,  # a name with $ is a name
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "legend.frameon": False,
}
_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def require_matplotlib() -> None:
    """Find Matplotlib, without the time that loading it takes.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "--out draws a page, which needs Matplotlib: pip install 'streamproc[bench]', "
            "or write the JSON alone with --json FILE"
        )


def draw(chart: Chart, name: str) -> ElementTree.Element:
    """Return the chart as an ``svg`` element; `name` keeps its ids apart from other charts'."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH_IN, _height(chart)), layout="constrained")
        axes = figure.subplots()
        match chart:
            case SpreadChart():
                _spread(axes, chart)
            case PercentileChart():
                _percentiles(axes, chart)
            case LineChart():
                _lines(axes, chart)
        return _element(figure, name, chart.title)


def _height(chart: Chart) -> float:
    return 0.8 + _ROW_IN * len(chart.rows) if isinstance(chart, SpreadChart) else 3.4


def _spread(axes: Axes, chart: SpreadChart) -> None:
    """Draw a line from the least to the greatest, each round as a dot, the median as a bar."""
    furthest = max(max(values) for values in chart.rows.values())
    for place, (name, values) in enumerate(chart.rows.items()):
        found, colour = spread(values), _colour(place)
        axes.plot([found.least, found.greatest], [place, place], color=colour, linewidth=1)
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=3.5, alpha=0.6)
        axes.plot([found.median], [place], "|", color=colour, markersize=13, markeredgewidth=2.5)
        mark = chart.marks.get(name)
        axes.text(
            found.greatest + 0.015 * furthest,
            place,
            show_number(found.median) + (f"  ({mark})" if mark else ""),
            verticalalignment="center",
            color=_LIMIT if mark else _INK,
        )
    axes.set_yticks(range(len(chart.rows)), list(chart.rows))
    axes.tick_params("y", length=0, labelcolor=_INK)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    # Room for the text beside the longest row.
    axes.set(xlim=(0, furthest * 1.25 or 1.0), ylim=(len(chart.rows) - 0.5, -0.5))
    _label(axes.xaxis, chart.unit)


def _percentiles(axes: Axes, chart: PercentileChart) -> None:
    last = 1.0
    for place, (name, curve) in enumerate(chart.curves.items()):
        nines = [-math.log10(1 - share) for share, _ in curve]
        last = max(last, *nines)
        values = [value for _, value in curve]
        axes.plot(nines, values, color=_colour(place), linestyle=_style(place), label=name)
    _limits(axes, chart.limits)
    shares = [0.0, 0.5, *(1 - 10.0**-nine for nine in range(1, math.ceil(last) + 1))]
    axes.set_xticks(
        [-math.log10(1 - share) for share in shares],
        [f"{share * 100:.6g}" for share in shares],
    )
    axes.set(xlim=(0, last), xlabel="percentile")
    axes.set_ylim(bottom=0)
    _label(axes.yaxis, chart.unit)
    _legend(axes)


def _lines(axes: Axes, chart: LineChart) -> None:
    for place, (name, points) in enumerate(chart.lines.items()):
        axes.plot(
            [at for at, _ in points],
            [value for _, value in points],
            color=_colour(place),
            linestyle=_style(place),
            linewidth=1.4,
            label=name,
        )
    _limits(axes, chart.limits)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    for row, moment in enumerate(chart.moments):
        _moment(axes, moment, row)
    axes.set_xlabel(chart.x)
    _label(axes.yaxis, chart.unit)
    _legend(axes)


def _moment(axes: Axes, moment: Moment, row: int) -> None:
    """Draw a vertical line; each one's text on a line of its own, and towards the middle."""
    axes.axvline(moment.at, color=_INK, linewidth=0.9, linestyle=":")
    left, right = axes.get_xlim()
    is_late = moment.at > (left + right) / 2
    axes.annotate(
        moment.what,
        (moment.at, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if is_late else 3, -10 - 13 * row),
        textcoords="offset points",
        horizontalalignment="right" if is_late else "left",
        bbox=_BEHIND_TEXT,
    )


def _limits(axes: Axes, limits: Any) -> None:
    for name, value in limits.items():
        axes.axhline(value, color=_LIMIT, linewidth=1, linestyle="--")
        axes.annotate(
            name,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            horizontalalignment="right",
            color=_LIMIT,
            bbox=_BEHIND_TEXT,
        )


def _label(axis: Any, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_label_text(unit)
    axis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))


def _legend(axes: Axes) -> None:
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best", fontsize=8)


def _colour(place: int) -> str:
    return f"#0a0c{place % SERIES:02x}"


def _style(place: int) -> str:
    """Return a dash pattern: whoever does not tell colours apart tells lines apart."""
    return _STYLES[place % len(_STYLES)]


def _element(figure: Figure, name: str, title: str) -> ElementTree.Element:
    """Return the figure as an element of an HTML page: no namespaces, ids of its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    text = file.getvalue()
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _own(key, value, name) for key, value in attributes.items()})
    root.attrib |= {"role": "img", "aria-label": title}
    return root


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return value.replace("url(#", f"url(#{name}-")
