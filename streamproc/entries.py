"""Finds what installed packages registered as entry points."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from streamproc.errors import ConfigError

__all__ = ["find_entry"]


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
    except (ImportError, AttributeError) as error:
        where = known[name].value
        raise ConfigError(f"{group}: {name} ({where}) cannot be loaded: {error}") from error
