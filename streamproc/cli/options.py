"""Options that several commands share, and how they become a `Config`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from streamproc.config import Config
from streamproc.errors import ConfigError
from streamproc.settings import load_config

__all__ = [
    "DEFAULT_CONFIG",
    "ConfigOption",
    "JsonOption",
    "SetOption",
    "YesOption",
    "config_path",
    "overrides_of",
    "settings_of",
]

DEFAULT_CONFIG = Path("streamproc.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration file. [default: streamproc.toml]"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, such as redis.url=redis://host; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it; without this only the plan is shown.")
]


def config_path(given: Path | None) -> Path | None:
    """Return the file to read: the one given, else the default one where it exists."""
    if given is None and not DEFAULT_CONFIG.exists():
        return None
    return given or DEFAULT_CONFIG


def overrides_of(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Read ``key=value`` texts; values are TOML, and plain text where they are not.

    Raises:
        ConfigError: an assignment has no ``=``.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments or ():
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write key=value, such as redis.timeout=2")
        try:
            overrides[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key] = text
    return overrides


def settings_of(config: Path | None, assignments: Sequence[str] | None) -> Config:
    """Return the settings that a file and the command line give.

    Raises:
        ConfigError: a setting is wrong.
    """
    return load_config(config_path(config), overrides=overrides_of(assignments))
