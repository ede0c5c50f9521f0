"""How commands print what programs read."""

from __future__ import annotations

from typing import Any

import msgspec
import typer

__all__ = ["print_json"]


def print_json(value: Any) -> None:
    """Print structs, dictionaries and lists as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
