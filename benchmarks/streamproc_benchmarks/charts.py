"""What a report's page draws, as data: the page knows these three forms and no scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

__all__ = ["Chart", "LineChart", "Moment", "PercentileChart", "SpreadChart"]


class SpreadChart(msgspec.Struct, frozen=True, kw_only=True, tag="spread"):
    """One row a subject: the median, and every round as a dot.

    Attributes:
        unit: of the values; the axis begins at 0.
        rows: each round's value by subject.
        marks: a word beside a row that changes what it means, such as ``the server's rate``.
    """

    title: str
    unit: str
    rows: Mapping[str, Sequence[float]]
    marks: Mapping[str, str] = {}


class PercentileChart(msgspec.Struct, frozen=True, kw_only=True, tag="percentiles"):
    """Curves over a log-percentile axis: as much room from 90 to 99 % as from 99 to 99.9 %.

    Attributes:
        unit: of the values.
        curves: (share in [0, 1), value) by subject, in ascending order of share.
        limits: values that the curves are to stay below, by what they are.
    """

    title: str
    unit: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    limits: Mapping[str, float] = {}


class Moment(msgspec.Struct, frozen=True):
    """Something that happened, such as ``kill -9``, at a place on the x axis."""

    at: float
    what: str


class LineChart(msgspec.Struct, frozen=True, kw_only=True, tag="lines"):
    """Curves over time, or over whatever `x` says.

    Attributes:
        x: what the x axis counts, such as ``seconds``.
        unit: of the values.
        lines: (x, value) by subject, in ascending order of x. A page is read on a screen: thin out
            what has more than some 2,000 points.
        moments: drawn as vertical lines.
        limits: drawn as horizontal lines, by what they are.
    """

    title: str
    x: str = "seconds"
    unit: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    moments: Sequence[Moment] = ()
    limits: Mapping[str, float] = {}


Chart = SpreadChart | PercentileChart | LineChart
"""Any of them; in JSON told apart by ``type``."""
