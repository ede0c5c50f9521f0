"""Two reports side by side: what became better, what worse, and what is only scatter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streamproc.errors import ConfigError
from streamproc_benchmarks.figures import Figure
from streamproc_benchmarks.reportfile import Report
from streamproc_benchmarks.statistics import Spread
from streamproc_benchmarks.tables import show_stacked

__all__ = [
    "Change",
    "Comparison",
    "compare_figures",
    "compare_reports",
    "print_comparison",
    "read_bound",
]

_BUSY_LOAD: Final = 1.0
# Where a report was put says nothing about what was measured.
_PLACES: Final = ("--out", "--json")

Direction = Literal["better", "worse", "within the spread"]
_STYLES: Final[dict[Direction, str]] = {
    "better": "green",
    "worse": "yellow",
    "within the spread": "dim",
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in both reports.

    Attributes:
        share: by how much the median grew, as a share of A's: -0.05 is 5 % less; infinite if A's
            is 0 and B's is not.
        direction: ``within the spread`` if a round of one lies between rounds of the other.
        fails: whether it is worse by more than the bound.
        caveats: why a side is not what its name says.
    """

    name: str
    unit: str
    a: Spread
    b: Spread
    share: float
    direction: Direction
    fails: bool
    caveats: Sequence[str]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that two reports have in common, and what they have not.

    Attributes:
        only_a, only_b: figures of one side, or scenarios, by name.
        warnings: how the circumstances differ.
    """

    changes: Sequence[Change]
    only_a: Sequence[str]
    only_b: Sequence[str]
    warnings: Sequence[str]


def read_bound(text: str) -> float:
    """Read ``5%`` or ``0.05`` as a share.

    Raises:
        ConfigError: it is neither.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    # A plain 5 would be 500 %, which nobody means.
    if rest or not 0 <= share < (float("inf") if percent else 1):
        raise ConfigError(f"--fail-over {text}: write a share such as 5% or 0.05")
    return share


def compare_figures(a: Figure, b: Figure, bound: float | None) -> Change:
    """Decide whether B's figure is better or worse than A's, or cannot be told apart.

    Two spreads that overlap are one cloud of rounds: the difference of their medians may be
    chance, however big, and more rounds would tell. So a figure fails only if every round of B is
    worse than every round of A *and* the medians are further apart than the bound. A figure of one
    round has no spread; for it the bound alone decides.

    Args:
        a: of the run to compare with.
        b: of the run in question.
        bound: how much worse is still well, as a share of A's median; None lets nothing fail.

    Raises:
        ConfigError: they are measured in different units.
    """
    if (a.unit, a.better) != (b.unit, b.better):
        raise ConfigError(
            f"{a.name}: A is in {a.unit} and {a.better} is better, B is in {b.unit} and {b.better} "
            "is better: these cannot be compared"
        )
    before, after = a.spread, b.spread
    share = _growth(before.median, after.median)
    loss = -share if a.better == "more" else share
    direction: Direction = "worse" if loss > 0 else "better"
    if before.least <= after.greatest and after.least <= before.greatest:
        direction = "within the spread"
    return Change(
        name=a.name,
        unit=a.unit,
        a=before,
        b=after,
        share=share,
        direction=direction,
        fails=direction == "worse" and bound is not None and loss > bound,
        caveats=[
            f"{side}: {figure.caveat}" for side, figure in (("A", a), ("B", b)) if figure.caveat
        ],
    )


def compare_reports(
    a: Mapping[str, Report], b: Mapping[str, Report], bound: float | None
) -> Comparison:
    """Compare what both have, scenario by scenario and figure by figure.

    Raises:
        ConfigError: they have nothing in common.
    """
    ours, theirs = _figures(a), _figures(b)
    if not ours.keys() & theirs.keys():
        raise ConfigError(
            f"nothing to compare: A is of {', '.join(a)}, B of {', '.join(b)}, and they have no "
            "figure in common"
        )
    return Comparison(
        changes=[
            compare_figures(figure, theirs[name], bound)
            for name, figure in ours.items()
            if name in theirs
        ],
        only_a=_only(a, b, theirs),
        only_b=_only(b, a, ours),
        warnings=[
            f"{scenario}: {warning}"
            for scenario in a
            if scenario in b
            for warning in _differences(a[scenario], b[scenario])
        ],
    )


def print_comparison(found: Comparison, bound: float | None, console: Console) -> None:
    """Print what was compared, what could not be, and what to beware of."""
    table = Table(
        *(Column("figure", overflow="fold"), Column("A", justify="right")),
        *(Column("B", justify="right"), Column("change", justify="right", no_wrap=True)),
        title="B against A: medians, below them least-greatest",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    for change in found.changes:
        verdict = Text(f"{change.share:+.1%}\n" if change.a.median else "\n")
        if change.fails:
            verdict.append("worse, too much", style="bold red")
        else:
            verdict.append(change.direction, style=_STYLES[change.direction])
        table.add_row(
            f"{change.name}\n{change.unit}",
            show_stacked(change.a),
            show_stacked(change.b),
            verdict,
        )
    console.print(table)
    for change in found.changes:
        for caveat in change.caveats:
            console.print(Text(f"{change.name}: {caveat}", style="yellow"))
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            console.print(f"only in {side}: {', '.join(names)}")
    for warning in found.warnings:
        console.print(Text(warning, style="yellow"))
    failed = [change.name for change in found.changes if change.fails]
    if failed:
        console.print(
            Text(f"worse by more than {bound:.3g} of A: {', '.join(failed)}", style="bold red")
        )


def _growth(before: float, after: float) -> float:
    if before == after:
        return 0.0
    return (after - before) / before if before else float("inf")


def _figures(reports: Mapping[str, Report]) -> dict[str, Figure]:
    return {figure.name: figure for report in reports.values() for figure in report.figures}


def _only(
    reports: Mapping[str, Report], others: Mapping[str, Report], known: Mapping[str, Figure]
) -> list[str]:
    """Return the figures that the others have not; of a scenario that they have not, its name."""
    names = [
        figure.name if scenario in others else scenario
        for scenario, report in reports.items()
        for figure in report.figures
        if figure.name not in known
    ]
    return list(dict.fromkeys(names))


def _differences(a: Report, b: Report) -> Iterator[str]:
    """Yield what else than the code may have made the difference."""
    ours, theirs = _circumstances(a), _circumstances(b)
    for what in ours:
        if ours[what] != theirs[what]:
            yield f"{what} differs: A {ours[what]}, B {theirs[what]}"
    libraries, others = a.environment.libraries, b.environment.libraries
    for name in sorted({*libraries, *others}):
        if libraries.get(name) != others.get(name):
            yield f"{name} differs: A {libraries.get(name)}, B {others.get(name)}"
    for side, report in (("A", a), ("B", b)):
        load = report.environment.load_average
        if load is not None and load >= _BUSY_LOAD:
            yield f"the load average was {load:.2f} before {side}: was the machine quiet?"


def _circumstances(report: Report) -> dict[str, Any]:
    environment = report.environment
    command = list(report.command)
    for place in _PLACES:
        while place in command:
            at = command.index(place)
            del command[at : at + 2]
    return {
        "the command": " ".join(command),
        "the seed": report.seed,
        "settings": report.settings,
        "Python": environment.python,
        "the CPU": environment.cpu,
        "the number of cores": f"{environment.usable_cores} of {environment.cores}",
        "the kernel": environment.kernel,
        "the Redis server": environment.redis_server,
        "pinning": environment.pinning,
    }
