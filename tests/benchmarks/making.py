"""Reports made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamproc_benchmarks.charts import Chart
from streamproc_benchmarks.environment import read_environment
from streamproc_benchmarks.figures import Bar, Better, Figure
from streamproc_benchmarks.reportfile import Report

QUIET = msgspec.structs.replace(
    read_environment(redis_server="valkey 9.1.2", pinning="pinned"), load_average=0.1
)


def a_figure(
    *values: float, name: str = "speed", better: Better = "more", caveat: str = ""
) -> Figure:
    return Figure(name=name, unit="records/s", better=better, values=values, caveat=caveat)


def a_bar(*values: float, limit: float = 1.0, unjudged: str = "") -> Bar:
    return Bar(what="ours / theirs", better="more", limit=limit, values=values, unjudged=unjudged)


def a_report(
    *figures: Figure,
    scenario: str = "throughput",
    bars: Sequence[Bar] = (),
    charts: Sequence[Chart] = (),
    caveats: Sequence[str] = (),
    **changes: Any,
) -> Report:
    report = Report(
        scenario=scenario,
        ended="2026-01-01T00:00:00+00:00",
        command=["streamproc", "bench", scenario],
        seed=1,
        settings={},
        environment=QUIET,
        caveats=caveats,
        bars=bars,
        figures=figures or (a_figure(1.0, 2.0, 3.0),),
        charts=charts,
        printed="a table\n",
        result=msgspec.Raw(b'{"rounds":{"noop":[1,2,3]}}'),
    )
    return msgspec.structs.replace(report, **changes)
