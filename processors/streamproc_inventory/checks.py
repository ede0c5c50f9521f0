"""What makes an event no sense: names, quantities and moments that cannot be."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from streamproc import Reject

__all__ = ["LARGEST_QUANTITY", "check_name", "check_quantity", "check_sequence", "check_stock",
           "milliseconds"]  # fmt: skip

LARGEST_QUANTITY: Final = 1_000_000_000
"""Units in one line, receipt or count; Shopify's inventory API draws the same border."""


def check_stock(sku: str, location_id: str) -> None:
    """Refuse a stock without a name, or with one that nobody could read.

    Raises:
        Reject: it has none, or it has characters that cannot be printed.
    """
    if sku and location_id and sku.isprintable() and location_id.isprintable():
        return
    if not sku:
        raise Reject("no-sku")
    if not location_id:
        raise Reject("no-location")
    raise Reject("unprintable-name")


def check_name(name: str) -> None:
    """Refuse a name that cannot be printed: it stands in keys, timers and logs.

    Raises:
        Reject: it has a control character or the like.
    """
    if not name.isprintable():
        raise Reject("unprintable-name")


def check_quantity(quantity: int) -> None:
    """Refuse a quantity that cannot be one.

    Raises:
        Reject: it is not positive, or too large.
    """
    if quantity <= 0:
        raise Reject("quantity-not-positive")
    if quantity > LARGEST_QUANTITY:
        raise Reject("quantity-too-large")


def check_sequence(sequence: int | None) -> None:
    """Refuse a number that no sequence has: they begin with 1.

    Raises:
        Reject: it is below that.
    """
    if sequence is not None and sequence < 1:
        raise Reject("sequence-not-positive")


def milliseconds(moment: datetime) -> int:
    """Return a moment in ms since the epoch.

    Raises:
        Reject: it has no offset.
    """
    if moment.tzinfo is None:
        raise Reject("time-without-offset")
    return round(moment.timestamp() * 1000)
