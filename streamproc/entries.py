"""Finds what installed packages registered as entry points, and reads its options."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from streamproc.errors import ConfigError

__all__ = ["find_entry", "import_problem", "read_options"]

# Where an import passes through before it comes to the code that is imported.
_MACHINERY: Final = (
    "<frozen ",
    importlib.__file__,
    importlib.metadata.__file__,
    f"{Path(__file__).parent}{os.sep}",
)

T = TypeVar("T", bound=msgspec.Struct)


def find_entry(group: str, name: str) -> Any:
    """Return the object that is registered as `name` in an entry-point group.

    Raises:
        ConfigError: no such name, or its package cannot be imported.
    """
    known: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=group)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"nothing named {name!r} is registered under {group}; {hint}"
            f"installed: {', '.join(sorted(known)) or 'nothing'}"
        )
    try:
        return known[name].load()
    except Exception as error:  # whatever a module may raise while it is run
        problem = import_problem(error)
        where = known[name].value
        raise ConfigError(f"{group}: {name} ({where}) cannot be loaded: {problem}") from error


def import_problem(error: Exception) -> str:
    """Say what an import raised, and on which line of the code that was imported."""
    text = f"{type(error).__name__}: {error}"
    places = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_MACHINERY)
    ]
    if not places or isinstance(error, SyntaxError):  # which names the place itself
        return text
    return f"{text} ({places[-1].filename}, line {places[-1].lineno})"


def read_options(kind: type[T], options: Mapping[str, Any], key: str, what: str) -> T:
    """Check what a table of options holds and return it as `kind`, a msgspec struct.

    Args:
        kind: the options that there are.
        options: the table.
        key: where it stands in the configuration, such as ``leases.options``.
        what: whose options they are, such as ``the redis store``.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type.
    """
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            knows = f"it knows {', '.join(sorted(known))}" if known else "it has none"
            hint = f"did you mean {near[0]}?" if near else knows
            raise ConfigError(f"{key}.{name}: {what} has no such option; {hint}")
    try:
        # Environment variables arrive as text; lax conversion lets "5" be a number.
        return msgspec.convert(dict(options), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{key} of {what}: {error}") from None
