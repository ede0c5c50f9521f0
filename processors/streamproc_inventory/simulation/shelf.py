"""What lies on a simulated shelf, and what the books say of it: the oracle's own arithmetic."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Place", "Shelf"]

Place = tuple[str, str]
"""(sku, warehouse)."""


class Shelf(msgspec.Struct):
    """One item in one warehouse. Shares no code with the processor's stock.

    Attributes:
        physical: units that are really there.
        on_hand: units that somebody who heard all events takes to be there; less theft.
    """

    place: Place
    physical: int = 0
    on_hand: int = 0
    committed: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    sequence: int = 0

    def move(self, units: int) -> None:
        """Put units on the shelf, or take them off."""
        self.physical += units
        self.on_hand += units

    def put(self, bucket: Literal["damaged", "quality_control"], units: int) -> None:
        """Note that units on the shelf are not for sale."""
        setattr(self, bucket, getattr(self, bucket) + units)

    @property
    def available(self) -> int:
        """What may be promised, once reservations that nobody ended have expired."""
        unfit = self.damaged + self.quality_control
        return self.on_hand - self.committed - unfit - self.safety_stock
