"""`streamproc bench dedupe`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.cli.loop import run_loop
from streamproc_benchmarks.options import JsonOption, OutOption

__all__ = ["dedupe"]


def dedupe(
    ids: Annotated[int, typer.Option(help="Event ids to mark in each layout.", min=1)] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Ids in one batch.", min=1)] = 1_000,
    out: OutOption = None,
    json: JsonOption = None,
) -> None:
    """Measure dedupe marks in Redis: memory and round trips, for both layouts."""
    from streamproc_benchmarks.dedupe import measure_dedupe, print_dedupe
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console

    output, console = Output(out, json), new_console()
    environment, found = run_loop(measure_dedupe(ids, batch))
    print_dedupe(found, console)
    report = make_report("dedupe", found, print_dedupe, environment)
    output.conclude([report], console)
