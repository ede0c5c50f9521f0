"""What every scenario's result boils down to: figures to compare, and bars to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from streamproc_benchmarks.charts import Chart
from streamproc_benchmarks.statistics import Spread, spread

__all__ = ["Bar", "Better", "Figure", "Result", "Verdict"]

Better = Literal["more", "less"]
"""Which way a figure improves."""


Verdict = Literal["met", "NOT met", "not judged"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity, each round's value first.

    Attributes:
        name: dotted and stable from one version to the next, such as
            ``throughput.noop.records_per_cpu_second``: two reports are compared by it.
        unit: of the values, such as ``records/s``, ``ms`` or ``MB``.
        better: which way it improves.
        values: one a round, in the order in which the rounds were run.
        caveat: why it is not what its name says, such as that the server was slower than the
            consumer, so that the rate is the server's; empty if it is.
    """

    name: str
    unit: str
    better: Better
    values: Sequence[float]
    caveat: str = ""

    @property
    def spread(self) -> Spread:
        """Median, least and greatest of the rounds."""
        return spread(self.values)


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A bar that was set, and what was measured against it; its median decides.

    Attributes:
        what: in words, such as ``no-op worker / our fetch and typed decode``.
        better: ``more`` if the limit is the least that will do, ``less`` if it is the most.
        limit: the bar, in `unit`.
        unit: of limit and values; empty for a ratio.
        values: one a round; none if `unjudged` says why nothing was measured.
        unjudged: why the values decide nothing, such as that the server was slower than the
            consumer; empty if they do.
    """

    what: str
    better: Better
    limit: float
    unit: str = ""
    values: Sequence[float]
    unjudged: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side of the limit."""
        measured = spread(self.values).median
        return measured >= self.limit if self.better == "more" else measured <= self.limit

    @property
    def verdict(self) -> Verdict:
        """The word for it."""
        if self.unjudged:
            return "not judged"
        return "met" if self.is_met else "NOT met"


class Result(Protocol):
    """What each scenario's result offers besides its own fields."""

    def figures(self) -> list[Figure]:
        """Return what two runs can be compared by."""
        ...

    def bars(self) -> list[Bar]:
        """Return the bars that this run has measured; none for what it left out."""
        ...

    def charts(self) -> list[Chart]:
        """Return what the report's page draws."""
        ...

    def caveats(self) -> list[str]:
        """Return what a reader must know before believing a figure: one sentence each."""
        ...
