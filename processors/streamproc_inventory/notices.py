"""What the inventory processor says: its ledger, and what somebody should look at.

Payloads are JSON with camelCase names. All of them are keyed by ``sku|location``.
"""

from __future__ import annotations

from typing import Literal

from streamproc import Event
from streamproc_inventory.levels import Levels

__all__ = [
    "NOTICES",
    "BackInStock",
    "CountMismatch",
    "InventoryAnomaly",
    "LedgerEntry",
    "Oversold",
    "ReservationExpired",
    "SequenceGap",
    "StockLow",
]


class LedgerEntry(Event, type="LedgerEntry", version=1, rename="camel", omit_defaults=True):
    """One change of one stock. Entries are only ever added.

    Attributes:
        version: the stock's version after it, which numbers the entries of a stock from 1.
        what: what happened, such as ``shipped``; the tag of a change in `changes`.
        why: the order line, reservation, transfer or reason that it is about.
        who: who did it, where the event says so.
        event_id, event_type: the event that caused it.
        units: what the event says; what it changed is `after` less `before`.
        before, after: levels, in the order of `Levels`.
        note: why it changed less than it says, such as ``in count c1``.
    """

    sku: str
    location_id: str
    version: int
    what: str
    event_id: str
    event_type: str
    units: int
    before: Levels
    after: Levels
    why: str = ""
    who: str | None = None
    note: str = ""


class Oversold(Event, type="Oversold", version=2, rename="camel"):
    """More is promised than there is; sent once for each time that available goes below zero.

    When that is depends on the order of delivery, unlike the stock itself: a receipt that comes
    before the order it serves sends none.
    """

    sku: str
    location_id: str
    oversold: int
    on_hand: int
    committed: int
    reserved: int
    available: int
    version: int


class StockLow(Event, type="StockLow", version=1, rename="camel"):
    """Available fell to the threshold; sent again only after it had risen above `rearm`."""

    sku: str
    location_id: str
    available: int
    threshold: int
    rearm: int
    incoming: int
    version: int


class BackInStock(Event, type="BackInStock", version=1, rename="camel"):
    """Available rose from zero or less to above it."""

    sku: str
    location_id: str
    available: int
    on_hand: int
    version: int


class CountMismatch(Event, type="CountMismatch", version=1, rename="camel"):
    """A count is not what was expected, or could not be used.

    Attributes:
        counted: units that were counted.
        drift: counted less expected, at the moment of the count; 0 if it was not applied.
        applied: whether on_hand follows it; an outdated count changes nothing.
        detail: a sentence for people.
    """

    sku: str
    location_id: str
    count_id: str
    counted: int
    drift: int
    applied: bool
    detail: str
    version: int


class ReservationExpired(Event, type="ReservationExpired", version=1, rename="camel"):
    """The time of a reservation was up, and its units are free again."""

    reservation_id: str
    sku: str
    location_id: str
    quantity: int
    available: int
    version: int


class SequenceGap(Event, type="SequenceGap", version=1, rename="camel"):
    """Events of a stock's sequence are missing, and later ones wait for them.

    Attributes:
        status: ``open``: they are missing for a while now; ``filled``: they came, or a count took
            their place; ``timed-out``: those that waited go to the dead letters.
        missing: number of the first one missing.
        waiting: events that wait, or waited, for it.
    """

    sku: str
    location_id: str
    status: Literal["open", "filled", "timed-out"]
    missing: int
    waiting: int


class InventoryAnomaly(Event, type="InventoryAnomaly", version=2, rename="camel"):
    """Events contradict each other; the stock follows them as said, for a person to look.

    Attributes:
        kind: ``over-closed``: more of an order line was cancelled and shipped than placed.
            ``over-returned``: more came back than was shipped. Both are sent again whenever the
            line changes, so the last one tells all of it.
            ``negative-on-hand``: more left than ever came; sent when on_hand goes below zero.
            ``negative-damaged``, ``negative-quality-control``: more was taken out than was in;
            the level shows 0.
            ``unknown-stock``: sold or reserved before anything was ever there.
            ``placed-twice``, ``reserved-twice``: an id was used again long after; not applied.
            ``reservation-ended``: a reservation that had ended was ended again; units follow both
            events, its state is the first.
            ``order-missing``: lines are cancelled, shipped or promised, and their orders have not
            come for long; ``order-forgotten``: they would be too late by now, and the line is
            given up. ``reservation-missing``: reservations ended and were never created.
            ``stale-sequence``, ``sequence-reused``: the number was applied before, or waits; the
            event is dropped.
        subject: the order line, reservation, number or event that it is about.
        quantity: units in question.
        detail: a sentence for people.
    """

    kind: str
    sku: str
    location_id: str
    subject: str
    quantity: int
    detail: str
    on_hand: int
    version: int


NOTICES: tuple[type[Event], ...] = (
    BackInStock,
    CountMismatch,
    InventoryAnomaly,
    LedgerEntry,
    Oversold,
    ReservationExpired,
    SequenceGap,
    StockLow,
)
