"""The `streamproc` command: its own commands, and those that plugins register."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, Final

import typer

from streamproc.cli.lazy import LazyGroup
from streamproc.errors import ConfigError, ProcessorError, StreamprocError

__all__ = ["app", "main"]

_GROUP: Final = "streamproc.commands"
_OWN: Final = {
    "run": "streamproc.cli.run:run",
    "local": "streamproc.cli.local:local",
    "doctor": "streamproc.cli.doctor:doctor",
    "shards": "streamproc.cli.shards:shards",
    "dlq": "streamproc.cli.dlq:app",
    "leases": "streamproc.cli.leases:app",
    "checkpoints": "streamproc.cli.checkpoints:app",
    "state": "streamproc.cli.state:app",
    "config": "streamproc.cli.config:app",
}


class _Commands(LazyGroup):
    def __init__(self, **settings: Any) -> None:
        own = [EntryPoint(name, place, _GROUP) for name, place in _OWN.items()]
        plugins = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
        super().__init__([*own, *plugins], **settings)


app = typer.Typer(
    name="streamproc",
    cls=_Commands,
    help="Process Amazon Kinesis streams: ordered shards, exactly-once effects in Redis, plugins.",
    no_args_is_help=True,
    # A traceback with local variables would print credentials and payloads.
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamproc {version('streamproc')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Carry the options that come before a command."""


def main() -> None:
    """Run a command; an expected error is a sentence on stderr and an exit code, no traceback."""
    try:
        app()
    except (ConfigError, ProcessorError) as error:
        sys.exit(_complain(error, 2))
    except StreamprocError as error:
        sys.exit(_complain(error, 1))


def _complain(error: StreamprocError, code: int) -> int:
    print(f"streamproc: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
