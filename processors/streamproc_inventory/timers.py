"""What the inventory processor schedules for itself."""

from __future__ import annotations

from typing import Literal

from streamproc import Event
from streamproc_inventory.changes import Change

__all__ = ["GapDue", "LocationOpened", "OverdueChange", "ReservationDue", "ReviewDue"]


class ReservationDue(Event, type="ReservationDue", version=1, rename="camel"):
    """The time of a reservation is up.

    Attributes:
        is_last: whether it must end now. The first time, one that is due long since may be so only
            because this worker is behind: what ended it in time may be among the next events.
    """

    sku: str
    location_id: str
    reservation_id: str
    is_last: bool = False


class GapDue(Event, type="SequenceGapDue", version=1, rename="camel"):
    """It is time to look whether events of a sequence are still missing.

    Attributes:
        stage: ``noticed`` starts the clock, as soon as the gap is committed; ``open`` tells it;
            ``timed-out`` gives it up.
    """

    sku: str
    location_id: str
    missing: int
    stage: Literal["noticed", "open", "timed-out"]


class OverdueChange(Event, type="OverdueChange", version=1, rename="camel"):
    """An event that waited for earlier ones of its sequence, which did not come in time.

    It becomes a dead letter, unless they came meanwhile. Redriven after they did, it is applied.

    Attributes:
        event_id, event_type, time_ms: of the event that waited.
        change: what it does to this stock.
    """

    sku: str
    location_id: str
    sequence: int
    event_id: str
    event_type: str
    time_ms: int
    change: Change


class ReviewDue(Event, type="StockReviewDue", version=1, rename="camel"):
    """It is time to look for lines whose order has not come."""

    sku: str
    location_id: str


class LocationOpened(Event, type="LocationOpened", version=1, rename="camel"):
    """A stock was heard of for the first time: it is to be listed with the others of its item."""

    sku: str
    location_id: str
