"""The quantities of a stock."""

from __future__ import annotations

import msgspec

__all__ = ["Levels"]


class Levels(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The quantities of a stock at one moment, in units; on the wire an array in this order."""

    on_hand: int = 0
    committed: int = 0
    reserved: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    available: int = 0
