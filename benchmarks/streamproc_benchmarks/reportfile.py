"""The file that a benchmark leaves: all of what was measured, and what is needed to repeat it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from rich.console import Console

from streamproc.errors import ConfigError
from streamproc_benchmarks.charts import Chart
from streamproc_benchmarks.environment import Environment
from streamproc_benchmarks.figures import Bar, Figure, Result

__all__ = ["Report", "make_report", "read_report", "read_reports", "write_report"]

_FORMAT: Final = 1
_WIDTH: Final = 110

_R = TypeVar("_R", bound=Result)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario's run.

    Attributes:
        format: of this file; another one cannot be read.
        scenario: such as ``throughput``; the file's name in a directory of reports.
        ended: when it was measured, ISO 8601 in UTC.
        command: what to run again.
        seed: of the events; None if the scenario draws none.
        settings: dotted settings of the workers that differ from the defaults.
        printed: what the command printed of the result, as plain text.
        result: the scenario's own account, each round and histogram of it.
        figures, bars, charts, caveats: what the result says of itself.
    """

    format: int = _FORMAT
    scenario: str
    ended: str
    command: Sequence[str]
    seed: int | None
    settings: dict[str, Any]
    environment: Environment
    caveats: Sequence[str]
    bars: Sequence[Bar]
    figures: Sequence[Figure]
    charts: Sequence[Chart]
    printed: str
    result: msgspec.Raw


class _Format(msgspec.Struct):
    format: int


def make_report(
    scenario: str,
    result: _R,
    print_result: Callable[[_R, Console], None],
    environment: Environment,
    *,
    seed: int | None = None,
    settings: dict[str, Any] | None = None,
) -> Report:
    """Return the report of what this command has just measured and printed."""
    printed = io.StringIO()
    print_result(result, Console(file=printed, width=_WIDTH))
    return Report(
        scenario=scenario,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        command=["streamproc", *sys.argv[1:]],
        seed=seed,
        settings=settings or {},
        environment=environment,
        caveats=result.caveats(),
        bars=result.bars(),
        figures=result.figures(),
        charts=result.charts(),
        printed=printed.getvalue(),
        result=msgspec.Raw(msgspec.json.encode(result)),
    )


def write_report(report: Report, path: Path) -> None:
    """Write it as JSON, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        ConfigError: it cannot be read, is no report, or one of another format.
    """
    try:
        text = path.read_bytes()
        found = msgspec.json.decode(text, type=_Format).format
        if found != _FORMAT:
            raise ConfigError(
                f"{path}: a report of format {found}, and this version reads format {_FORMAT}: "
                "measure again, or read it with the version that wrote it"
            )
        return msgspec.json.decode(text, type=Report)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: no report of `streamproc bench`: {error}") from error


def read_reports(path: Path) -> dict[str, Report]:
    """Read a report, or all of a directory's ``*.json``; by scenario, in order of names.

    Raises:
        ConfigError: one cannot be read, there is none, or two are of the same scenario.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: there is no report in this directory")
    reports: dict[str, Report] = {}
    for file in files:
        report = read_report(file)
        if report.scenario in reports:
            raise ConfigError(f"{file}: a second report of {report.scenario} in this directory")
        reports[report.scenario] = report
    return reports
