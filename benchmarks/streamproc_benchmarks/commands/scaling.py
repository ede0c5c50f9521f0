"""`streamproc bench scaling`."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc.errors import ConfigError
from streamproc_benchmarks.options import (
    BarsOption,
    JsonOption,
    LimitOption,
    OutOption,
    RoundsOption,
    SeedOption,
    ShardsOption,
    checked_settings,
    say,
)

__all__ = ["scaling"]


def scaling(
    processor: Annotated[
        str, typer.Option(help="computing, fraud, inventory or noop: what each worker does.")
    ] = "computing",
    workers: Annotated[int, typer.Option(help="Most worker processes.", min=1)] = 2,
    records: Annotated[int, typer.Option(help="Records for each worker.", min=1_000)] = 60_000,
    rounds: RoundsOption = 5,
    turn: Annotated[
        float, typer.Option(help="Seconds that one team works before the next.", min=0.01)
    ] = 0.5,
    shards: ShardsOption = 8,
    seed: SeedOption = 1,
    limit: LimitOption = 300,
    out: OutOption = None,
    json: JsonOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Have teams of 1 and more worker processes read in turns: rates, CPU time, efficiency."""
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.scaling import ProcessorName, ScalingPlan, print_scaling
    from streamproc_benchmarks.scaling_run import measure_scaling
    from streamproc_benchmarks.tables import new_console

    if processor not in get_args(ProcessorName):
        raise ConfigError(
            f"--processor {processor}: there are {', '.join(get_args(ProcessorName))}"
        )
    if shards < workers:
        raise ConfigError(f"--shards {shards}: {workers} workers need one each at least")
    settings = checked_settings(assignments)
    plan = ScalingPlan(
        processor=cast("ProcessorName", processor),
        workers=workers,
        records=records,
        rounds=rounds,
        turn=turn,
        shards=shards,
        seed=seed,
        limit=limit,
    )
    output, console = Output(out, json, judge=bars), new_console()
    environment, result = run_loop(measure_scaling(plan, settings, say))
    print_scaling(result, console)
    report = make_report(
        "scaling", result, print_scaling, environment, seed=seed, settings=settings
    )
    output.conclude([report], console)
