"""What causes the changes of a stock, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from streamproc_inventory.book import Limits
from streamproc_inventory.notices import LedgerEntry
from streamproc_inventory.stock import Stock

__all__ = ["Cause", "Effect", "Finding", "Outcome"]


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The event that a change comes from.

    Attributes:
        time_ms: when it happened, in ms since the epoch.
    """

    event_id: str
    event_type: str
    time_ms: int


class Finding(NamedTuple):
    """Something that cannot be right, or that was not applied.

    Attributes:
        kind: one of those that `InventoryAnomaly` lists, or ``drift`` or ``outdated-count``.
        subject: the order line, reservation, count or number that it is about.
        quantity: units in question.
        detail: a sentence for people.
    """

    kind: str
    subject: str
    quantity: int
    detail: str


class Outcome(msgspec.Struct, eq=False):
    """What came of an event at one stock.

    Attributes:
        sku, location_id: the stock.
        entries: the changes applied; none if it was parked or dropped, several if it filled a gap.
        findings: what to tell somebody.
        expiries: reservations that began, and the moments in ms at which they expire.
        ended: reservations that ended.
        gap: number of the sequence's first missing event, when a gap began before it.
        filled: number of a told gap's first missing event, when that gap is filled.
        waits: whether something began to wait for its order or its creation.
    """

    sku: str
    location_id: str
    entries: tuple[LedgerEntry, ...] = ()
    findings: tuple[Finding, ...] = ()
    expiries: tuple[tuple[str, int], ...] = ()
    ended: tuple[str, ...] = ()
    gap: int = 0
    filled: int = 0
    waits: bool = False

    def find(self, kind: str, subject: str, quantity: int, detail: str) -> None:
        """Add a finding."""
        self.findings += (Finding(kind, subject, quantity, detail),)


Effect = Callable[[Stock, Any, Cause, Limits, Outcome], str | None]
"""What a kind of change does to a stock: to its levels but `available`, and to its book.

It returns what the ledger notes: why it changed less than it says.
"""
