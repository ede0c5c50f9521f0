"""`streamproc config`: show the effective settings, write a first file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from streamproc.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    SetOption,
    config_path,
    overrides_of,
)
from streamproc.errors import ConfigError
from streamproc.observability.redact import redact
from streamproc.settings import convert, merge_layers, settings

__all__ = ["app"]

app = typer.Typer(help="Show and write the configuration.", no_args_is_help=True)

_FIRST_FILE = """\
# The consumer group: names the state, the positions and the leases.
group = "my-group"

[stream]
name = "my-stream"
# region = "eu-west-1"            # unset: the AWS environment's
# endpoint_url = "http://127.0.0.1:4567"   # as printed by `streamproc local`

[redis]
url = "redis://127.0.0.1:6379/0"

# A table for each processor: an installed plugin by its name, or your own class by `use`.
[processors.fraud]

# [processors.velocity]
# use = "velocity:Velocity"       # module:Class; the working directory is searched too
# limit = 3
"""


@app.command()
def show(
    config: ConfigOption = None,
    assignments: SetOption = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Also say where each value comes from.")
    ] = False,
) -> None:
    """Show every setting as it would be used."""
    path = config_path(config)
    tree, origins = merge_layers(path, None, overrides_of(assignments))
    console = Console()
    table = Table("setting", "value", *(["origin"] if origin else []), "meaning", box=None)
    for setting in settings(convert(tree, path), origins):
        # Lease stores and sinks have URLs with passwords among their options, too.
        value = redact(orjson.dumps(setting.value).decode())
        table.add_row(
            setting.key, value, *([setting.origin] if origin else []), setting.description
        )
    console.print(table)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_CONFIG,
) -> None:
    """Write a first configuration file with comments."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_FIRST_FILE)
    except FileExistsError:
        raise ConfigError(f"{path} exists already and is left alone; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    typer.echo(f"wrote {path}; edit group and stream, then: streamproc run --config {path}")
