"""`streamproc bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compare"]

_Reports = "JSON of --out or --json, or a directory of --out."


def compare(
    a: Annotated[Path, typer.Argument(help=f"What to compare with: {_Reports}")],
    b: Annotated[Path, typer.Argument(help=f"What is in question: {_Reports}")],
    fail_over: Annotated[
        str | None,
        typer.Option(help="Exit with 1 if a figure is worse by more, such as 5% or 0.05."),
    ] = None,
) -> None:
    """Compare two reports figure by figure: better, worse, or within the spread of the rounds."""
    from streamproc_benchmarks.compare import compare_reports, print_comparison, read_bound
    from streamproc_benchmarks.reportfile import read_reports
    from streamproc_benchmarks.tables import new_console

    bound = None if fail_over is None else read_bound(fail_over)
    found = compare_reports(read_reports(a), read_reports(b), bound)
    print_comparison(found, bound, new_console())
    if any(change.fails for change in found.changes):
        raise typer.Exit(1)
