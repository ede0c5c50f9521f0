"""What the inventory processor takes and what it says."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamproc import Event

__all__ = [
    "InventoryAnomaly",
    "OrderCancelled",
    "OrderLine",
    "OrderPlaced",
    "OrderShipped",
    "Oversold",
    "StockReceived",
]


class OrderLine(msgspec.Struct, frozen=True):
    """A quantity of one item at one location, within an order."""

    line_id: str
    sku: str
    location_id: str
    quantity: int


class OrderPlaced(Event, type="OrderPlaced", version=1, id="order_id"):
    """An order was accepted; its quantities are promised until cancelled or shipped."""

    order_id: str
    lines: list[OrderLine]


class OrderCancelled(Event, type="OrderCancelled", version=1, id="cancellation_id"):
    """Quantities of an order are not wanted any more; an order may be cancelled in parts."""

    cancellation_id: str
    order_id: str
    lines: list[OrderLine]


class OrderShipped(Event, type="OrderShipped", version=1, id="shipment_id"):
    """Quantities of an order left the building; an order may be shipped in parts."""

    shipment_id: str
    order_id: str
    lines: list[OrderLine]


class StockReceived(Event, type="StockReceived", version=1, id="receipt_id"):
    """Goods arrived and can be sold."""

    receipt_id: str
    sku: str
    location_id: str
    quantity: int


class Oversold(Event, type="Oversold", version=1):
    """More is promised than there is; sent once for each time that stock goes below zero.

    When that is depends on the order of delivery, unlike the stock itself: a receipt that comes
    before the order it serves sends none. Its id is the envelope's.
    """

    sku: str
    location_id: str
    on_hand: int
    committed: int
    available: int


class InventoryAnomaly(Event, type="InventoryAnomaly", version=1):
    """Events contradict each other; the stock follows them all the same, for a person to look.

    Attributes:
        kind: ``over-closed``: more of an order line was cancelled and shipped than was placed;
            sent again whenever more is closed, so the last one tells all of it.
            ``negative-on-hand``: more was shipped than ever arrived; sent when on_hand goes below
            zero.
        order_id: the order that brought it to light.
        line_id: its line.
        placed, cancelled, shipped: the line's quantities now.
    """

    kind: Literal["over-closed", "negative-on-hand"]
    sku: str
    location_id: str
    order_id: str
    line_id: str
    placed: int
    cancelled: int
    shipped: int
    on_hand: int
