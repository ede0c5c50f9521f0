"""How every benchmark command ends: caveats, bars, files, exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from streamproc.errors import ConfigError
from streamproc_benchmarks.reportfile import Report, write_report
from streamproc_benchmarks.tables import bars_table, print_environment

__all__ = ["Output"]


class Output:
    """Where reports go, and whether a missed bar fails the command.

    Make it before measuring, so that an output that cannot be written costs nobody an hour.

    Args:
        directory: gets ``<scenario>.json``.
        file: gets the report itself.
        judge: whether a missed bar is an exit code of 1; bars are printed in any case.

    Raises:
        ConfigError: a place cannot be written to.
    """

    def __init__(self, directory: Path | None, file: Path | None, *, judge: bool = True) -> None:
        self._directory = directory
        self._file = file
        self._judge = judge
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--out {directory}: {error.strerror}") from error
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
        print_environment(reports[0].environment, reports[0].seed, console)
        for path, report in self._files(reports):
            write_report(report, path)
            console.print(f"written to {path}")
        missed = sum(not bar.is_met for bar in bars)
        if missed and self._judge:
            console.print(Text(f"{missed} of {len(bars)} bars were NOT met", style="bold red"))
            raise typer.Exit(1)

    def _files(self, reports: Sequence[Report]) -> list[tuple[Path, Report]]:
        files = []
        if self._directory is not None:
            files += [(self._directory / f"{one.scenario}.json", one) for one in reports]
        if self._file is not None:
            files += [(self._file, one) for one in reports]
        return files
