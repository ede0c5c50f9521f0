"""The result of measuring single steps: what one of them costs, in microseconds of CPU time."""

from __future__ import annotations

import re

import msgspec
from rich.console import Console

from streamproc_benchmarks.charts import Chart, SpreadChart
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.tables import new_table

__all__ = ["Steps", "print_steps"]


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What steps cost that took turns in every round.

    Attributes:
        scenario: such as ``codec``.
        each: what the cost is of: a record, a payment.
        costs: microseconds of CPU time by step, one a round.
    """

    scenario: str
    each: str
    costs: dict[str, list[float]]

    def figures(self) -> list[Figure]:
        """Return one a step."""
        return [
            Figure(
                name=f"{self.scenario}.{re.sub('[^a-z0-9]+', '_', step.lower()).strip('_')}",
                unit=f"us/{self.each}",
                better="less",
                values=values,
            )
            for step, values in self.costs.items()
        ]

    def bars(self) -> list[Bar]:
        """Return none: no bar was set for a single step."""
        return []

    def charts(self) -> list[Chart]:
        """Draw all steps side by side."""
        return [
            SpreadChart(
                title=f"CPU time a {self.each}, step by step", unit="microseconds", rows=self.costs
            )
        ]

    def caveats(self) -> list[str]:
        """Return none: CPU time counts no waiting."""
        return []


def print_steps(steps: Steps, console: Console) -> None:
    """Print one row a step."""
    table = new_table(
        f"CPU time a {steps.each}, in microseconds", ("median", "least", "greatest"), "step"
    )
    for name, values in steps.costs.items():
        found = spread(values)
        table.add_row(name, f"{found.median:.2f}", f"{found.least:.2f}", f"{found.greatest:.2f}")
    console.print(table)
