"""A group of commands that are imported when they are asked for.

All of them together import most of the package and of its plugins; a command needs its own part.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["LazyGroup"]


class LazyGroup(TyperGroup):
    """Knows its commands by name; a call imports the one it names, ``--help`` all.

    Args:
        points: the commands, each a function or a `typer.Typer`, in the order of the help; of two
            with one name the later counts.
        settings: what typer gives a group.
    """

    def __init__(self, points: Iterable[EntryPoint], **settings: Any) -> None:
        self._points = {point.name: point for point in points}
        # Of this typer reads the names only, to suggest one for another.
        names: dict[str, Any] = dict.fromkeys(self._points)
        super().__init__(**settings | {"commands": names})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands' names."""
        return list(self._points)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none of that name."""
        if cmd_name not in self._points:
            return None
        found = self._points[cmd_name].load()
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = cmd_name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)
