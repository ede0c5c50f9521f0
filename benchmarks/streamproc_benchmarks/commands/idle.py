"""`streamproc bench idle`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc.errors import ConfigError
from streamproc_benchmarks.options import BarsOption, JsonOption, OutOption, checked_settings

__all__ = ["idle"]


def idle(
    shards: Annotated[int, typer.Option(help="Empty shards of the stream.", min=1)] = 1_000,
    settle: Annotated[float, typer.Option(help="Seconds before the look.", min=0)] = 15,
    seconds: Annotated[float, typer.Option(help="Seconds to look for.", min=1)] = 30,
    out: OutOption = None,
    json: JsonOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Measure a worker whose shards are all quiet: CPU, memory, polls."""
    from streamproc.settings import load_config
    from streamproc_benchmarks.idle import measure_idle, print_idle
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console

    settings = checked_settings(assignments)
    interval = load_config(None, {}, settings).read.idle_poll_interval
    if seconds < 2 * interval:
        raise ConfigError(
            f"--seconds {seconds:g}: too short to see two polls of a shard, which are "
            f"{interval:g} s apart (read.idle_poll_interval): at least {2 * interval:g}"
        )
    output, console = Output(out, json, judge=bars), new_console()
    environment, cost = run_loop(measure_idle(shards, settle, seconds, settings))
    print_idle(cost, console)
    report = make_report("idle", cost, print_idle, environment, settings=settings)
    output.conclude([report], console)
