"""The stock of one item at one location, as it is stored."""

from __future__ import annotations

import msgspec

from streamproc_inventory.book import Book
from streamproc_inventory.levels import Levels

__all__ = ["Stock"]


class Stock(msgspec.Struct):
    """Stock of one item at one location.

    Invariants: `available` is `on_hand - committed - reserved - damaged - quality_control -
    safety_stock`; `committed` is the sum of the order lines' open units, `reserved` that of the
    live reservations; `oversold` is `max(-available, 0)`; `version` grows by one with each change.
    Levels depend on the set of events applied, not on their order: lines and reservations hold
    what became of their units, sums commute, and a count holds for the moments up to its own.

    Attributes:
        on_hand: units physically there, in whatever condition; below 0 when more left than came.
        committed: promised to orders and not yet shipped.
        reserved: held by live reservations.
        incoming: announced and not yet arrived; below 0 while an arrival precedes its notice.
        version: number of changes so far.
        last_event: id of the event that made the last one.
        updated_ms: latest event time so far, in ms since the epoch.
    """

    on_hand: int = 0
    committed: int = 0
    reserved: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    available: int = 0
    oversold: int = 0
    version: int = 0
    last_event: str = ""
    updated_ms: int = 0
    book: Book = msgspec.field(default_factory=Book)

    @property
    def levels(self) -> Levels:
        """The quantities now."""
        return Levels(
            self.on_hand,
            self.committed,
            self.reserved,
            self.incoming,
            self.damaged,
            self.quality_control,
            self.safety_stock,
            self.available,
        )
