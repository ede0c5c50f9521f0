"""`streamproc bench soak`."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc_benchmarks.options import (
    BarsOption,
    OutOption,
    SeedOption,
    ShardsOption,
    checked_settings,
    say,
)

__all__ = ["soak"]


def soak(
    part: Annotated[
        Literal["overload", "replay", "both"], typer.Option(help="What to run.")
    ] = "both",
    factor: Annotated[
        float, typer.Option(help="Times its capacity that the worker is offered.", min=1)
    ] = 10,
    seconds: Annotated[float, typer.Option(help="Seconds of overload.", min=3)] = 300,
    service: Annotated[
        float, typer.Option(help="Seconds that a handler waits under overload.", min=0.001)
    ] = 0.1,
    capacity_seconds: Annotated[
        float, typer.Option(help="Seconds for which capacity is measured.", min=1)
    ] = 15,
    hours: Annotated[float, typer.Option(help="Hours of events to replay.", min=0.001)] = 8,
    per_second: Annotated[
        float, typer.Option(help="Events in a second of event time.", min=1)
    ] = 500,
    ahead: Annotated[
        int, typer.Option(help="Records kept ready for the worker in a replay.", min=1_000)
    ] = 200_000,
    limit: Annotated[float, typer.Option(help="Seconds that a replay may take.", min=1)] = 3_600,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    out: OutOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Load a worker far over its capacity, and with hours of events: does its memory stay?"""
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.overload import OverloadPlan, measure_overload, print_overload
    from streamproc_benchmarks.replay import ReplayPlan, measure_replay, print_replay
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console

    output, console = Output(out, None, judge=bars), new_console()
    settings = checked_settings(assignments)
    report = functools.partial(make_report, seed=seed, settings=settings)
    reports = []
    if part != "replay":
        overload_plan = OverloadPlan(
            factor=factor,
            seconds=seconds,
            service=service,
            capacity_seconds=capacity_seconds,
            shards=shards,
            seed=seed,
            settings=settings,
        )
        environment, overload = run_loop(measure_overload(overload_plan, say))
        print_overload(overload, console)
        reports.append(report("overload", overload, print_overload, environment))
    if part != "overload":
        replay_plan = ReplayPlan(
            hours=hours,
            per_second=per_second,
            ahead=ahead,
            limit=limit,
            shards=shards,
            seed=seed,
            settings=settings,
        )
        environment, replay = run_loop(measure_replay(replay_plan, say))
        print_replay(replay, console)
        reports.append(report("replay", replay, print_replay, environment))
    output.conclude(reports, console)
