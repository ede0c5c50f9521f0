"""How every benchmark command ends: caveats, bars, files, exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from streamproc.errors import ConfigError
from streamproc_benchmarks.plots import require_matplotlib
from streamproc_benchmarks.reportfile import Report, read_reports, write_report
from streamproc_benchmarks.tables import bars_table, environment_lines

__all__ = ["Output"]


class Output:
    """Where reports go, and whether a missed bar fails the command.

    Make it before measuring, so that an output that cannot be written costs nobody an hour.

    Args:
        directory: gets ``<scenario>.json``, and ``index.html`` about all reports that are there.
        file: gets the report itself.
        judge: whether a missed bar is an exit code of 1; bars are printed in any case.

    Raises:
        ConfigError: a place cannot be written to, the directory holds something else than reports,
            or Matplotlib is missing.
    """

    def __init__(self, directory: Path | None, file: Path | None, *, judge: bool = True) -> None:
        self._directory = directory
        self._file = file
        self._judge = judge
        if directory is not None:
            _prepare(directory)
        if file is not None and not file.parent.is_dir():
            raise ConfigError(f"--json {file}: there is no directory {file.parent}")

    def conclude(self, reports: Sequence[Report], console: Console) -> None:
        """Print what the figures depend on and the bars, write the files.

        Raises:
            typer.Exit: with code 1, if a bar was missed and bars are judged.
        """
        for caveat in [caveat for report in reports for caveat in report.caveats]:
            console.print(Text(caveat, style="yellow"))
        bars = [bar for report in reports for bar in report.bars]
        if bars:
            console.print(bars_table(bars))
        for bar in bars:
            if bar.unjudged:
                console.print(Text(f"{bar.what}: not judged: {bar.unjudged}", style="yellow"))
        for line in environment_lines(reports[0].environment, reports[0].seed):
            console.print(Text(line, style="dim"))
        self._write(reports, console)
        missed = sum(bar.verdict == "NOT met" for bar in bars)
        if missed and self._judge:
            console.print(Text(f"{missed} of {len(bars)} bars were NOT met", style="bold red"))
            raise typer.Exit(1)

    def _write(self, reports: Sequence[Report], console: Console) -> None:
        if self._file is not None:
            for report in reports:
                write_report(report, self._file)
                console.print(f"written to {self._file}")
        if self._directory is not None:
            from streamproc_benchmarks.page import write_page

            for report in reports:
                write_report(report, self._directory / f"{report.scenario}.json")
            page = self._directory / "index.html"
            write_page(read_reports(self._directory), page)
            console.print(f"written to {page}, and the JSON beside it")


def _prepare(directory: Path) -> None:
    require_matplotlib()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"--out {directory}: cannot be written to")
    if any(directory.glob("*.json")):
        read_reports(directory)
