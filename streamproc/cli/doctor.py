"""`streamproc doctor`: look at all that a worker depends on, and say what to do."""

from __future__ import annotations

from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, settings_of
from streamproc.config import Config
from streamproc.doctor.examination import examine
from streamproc.doctor.finding import Finding, Level
from streamproc.observability.redact import redact

__all__ = ["doctor"]

_SHOWN: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("ok", "green"),
    "warn": ("warn", "yellow"),
    "fail": ("FAIL", "bold red"),
}


def doctor(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    assignments: SetOption = None,
) -> None:
    """Check configuration, Kinesis, Redis, leases and processors; exit 1 if something must change.

    Takes no lease and reads at most one record. It writes to Redis only keys of its own, which are
    gone when it ends.
    """
    settings = settings_of(config, assignments)
    findings = run_loop(_examine(settings, quiet=as_json))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


async def _examine(settings: Config, quiet: bool) -> list[Finding]:
    console = Console(soft_wrap=True, highlight=False)
    findings = []
    async for found in examine(settings):
        finding = msgspec.structs.replace(found, message=redact(found.message))
        findings.append(finding)
        if not quiet:
            word, style = _SHOWN[finding.level]
            console.print(
                Text.assemble((f"{word:<5}", style), f"{finding.check:<29} {finding.message}")
            )
    return findings
