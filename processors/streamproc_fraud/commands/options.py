"""Options that several commands share: how large the world is."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Customers", "Radius", "Terminals", "WorldDays"]

Customers = Annotated[int, typer.Option("--customers", help="Customers of the world.", min=1)]
Terminals = Annotated[int, typer.Option("--terminals", help="Terminals of the world.", min=2)]
WorldDays = Annotated[int, typer.Option("--world-days", help="Days of the world.", min=1)]
Radius = Annotated[
    float, typer.Option("--radius", help="How far customers go, of a square of side 100.", min=0)
]
