"""The form of every printed table, and the lines that say where it was measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamproc_benchmarks.environment import Environment
from streamproc_benchmarks.figures import Bar, Verdict
from streamproc_benchmarks.statistics import Spread, spread

__all__ = [
    "bars_table",
    "environment_lines",
    "new_console",
    "new_table",
    "show_limit",
    "show_measured",
    "show_number",
    "show_range",
    "show_spread",
    "show_stacked",
]

_WIDTH: Final = 110
_STYLES: Final[dict[Verdict, str]] = {"met": "green", "NOT met": "bold red", "not judged": "yellow"}


def new_console() -> Console:
    """Return a console as wide as the terminal; wide enough for every table where there is none."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH)


def new_table(title: str, columns: Sequence[str], subject: str = "consumer") -> Table:
    """Return an empty table: the subject at the left, its figures at the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column(subject, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    return table


def show_spread(values: Sequence[float], form: str = "") -> str:
    """Return what `show_stacked` does of their spread."""
    return show_stacked(spread(values), form)


def show_stacked(found: Spread, form: str = "") -> str:
    """Return the median over the least and the greatest, on two lines; of one value itself alone.

    Without a form, numbers are shown as `show_number` does.
    """
    median, least, greatest = [
        format(value, form) if form else show_number(value)
        for value in (found.median, found.least, found.greatest)
    ]
    return median if found.rounds == 1 else f"{median}\n{least}-{greatest}"


def show_range(found: Spread) -> str:
    """Return ``median (least - greatest)``, or the value alone if there is only one."""
    if found.rounds == 1:
        return show_number(found.median)
    return (
        f"{show_number(found.median)} ({show_number(found.least)} - {show_number(found.greatest)})"
    )


def show_limit(bar: Bar) -> str:
    """Return what is to be reached, such as ``<= 150 MB``."""
    sign = ">=" if bar.better == "more" else "<="
    return f"{sign} {show_number(bar.limit)} {bar.unit}".rstrip()


def show_measured(bar: Bar) -> str:
    """Return what was measured against it; nothing if nothing was."""
    return show_range(spread(bar.values)) if bar.values else ""


def bars_table(bars: Sequence[Bar]) -> Table:
    """Return what was to be reached, and whether it was."""
    table = Table(
        title="Bars: the median decides (least - greatest)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("what")
    table.add_column("bar", justify="right", no_wrap=True)
    table.add_column("measured", justify="right")
    table.add_column("", no_wrap=True)
    for bar in bars:
        table.add_row(
            bar.what,
            show_limit(bar),
            show_measured(bar),
            Text(bar.verdict, style=_STYLES[bar.verdict]),
        )
    return table


def environment_lines(environment: Environment, seed: int | None) -> list[str]:
    """Return what the figures depend on."""
    libraries = ", ".join(f"{name} {number}" for name, number in environment.libraries.items())
    load = environment.load_average
    return [
        "; ".join(filter(None, [environment.python, libraries, environment.redis_server])),
        f"{environment.cpu}, {environment.usable_cores} of {environment.cores} cores usable, "
        f"{environment.kernel}, load average before {'unknown' if load is None else f'{load:.2f}'}",
        environment.pinning + ("" if seed is None else f"; seed {seed}"),
    ]


def show_number(value: float) -> str:
    """Return it with four digits at most: 0.6131, 12.8, 4024, 176.7k, 1.2M."""
    for least, size, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"
