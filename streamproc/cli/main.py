"""The `streamproc` command: its own commands, and those that plugins register."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from streamproc.cli import checkpoints, config, dlq, doctor, leases, local, run, shards, state
from streamproc.errors import ConfigError, ProcessorError, StreamprocError

__all__ = ["app", "main"]

app = typer.Typer(
    name="streamproc",
    help="Process Amazon Kinesis streams: ordered shards, exactly-once effects in Redis, plugins.",
    no_args_is_help=True,
    # A traceback with local variables would print credentials and payloads.
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("local")(local.local)
app.command("doctor")(doctor.doctor)
app.command("shards")(shards.shards)
app.add_typer(dlq.app, name="dlq")
app.add_typer(leases.app, name="leases")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(state.app, name="state")
app.add_typer(config.app, name="config")


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


def _add_plugin_commands() -> None:
    for point in sorted(entry_points(group="streamproc.commands"), key=lambda point: point.name):
        app.add_typer(point.load(), name=point.name)


def main() -> None:
    """Run a command; an expected error is a sentence on stderr and an exit code, no traceback."""
    try:
        _add_plugin_commands()
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
