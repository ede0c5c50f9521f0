"""What commands of plugins need: the common options, the group's data, the loop, the output.

A command is a `typer.Typer` registered under the entry-point group `streamproc.commands`.
"""

from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config

__all__ = [
    "Config",
    "ConfigOption",
    "JsonOption",
    "SetOption",
    "print_json",
    "run_loop",
    "settings_of",
]
