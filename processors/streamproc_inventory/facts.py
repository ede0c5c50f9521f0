"""What the inventory processor takes: facts about orders, goods, reservations and counts.

Payloads are JSON with camelCase names. Versions 1 of the first four had snake_case names and no
kits; they are still read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from streamproc import Event

__all__ = [
    "Component",
    "InboundExpected",
    "ItemBackInStock",
    "OrderCancelled",
    "OrderLine",
    "OrderPlaced",
    "OrderShipped",
    "ReservationCommitted",
    "ReservationCreated",
    "ReservationReleased",
    "ReturnReceived",
    "StockAdjusted",
    "StockCounted",
    "StockPolicySet",
    "StockReceived",
    "StockTransferred",
]

Condition = Literal["available", "damaged", "quality_control"]
"""What goods are fit for: sale, nothing, or yet to be looked at."""


class Component(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a kit.

    Attributes:
        quantity: units in one kit.
        components: there to be refused: a kit is not made of kits.
    """

    sku: str
    quantity: int
    components: tuple[msgspec.Raw, ...] = ()


class OrderLine(msgspec.Struct, frozen=True, rename="camel"):
    """A quantity of one item at one location, within an order.

    Attributes:
        components: what a kit consists of. The kit itself has no stock; its parts have, at the
            line's location, and all of them move or none. Every event about the line names them.
        reservation_id: the reservation that the order uses up; for `OrderPlaced` only.
        sequence: number of the event in its source's sequence for this stock; not for kits.
    """

    line_id: str
    sku: str
    location_id: str
    quantity: int
    components: tuple[Component, ...] = ()
    reservation_id: str | None = None
    sequence: int | None = None


class _LineV1(msgspec.Struct, frozen=True):
    line_id: str
    sku: str
    location_id: str
    quantity: int


class OrderPlacedV1(Event, type="OrderPlaced", version=1, id="order_id"):
    """The contract without kits and reservations."""

    order_id: str
    lines: list[_LineV1]

    def upcast(self) -> OrderPlaced:
        """Return it as version 2."""
        return OrderPlaced(order_id=self.order_id, lines=_lines(self.lines))


class OrderPlaced(
    Event, type="OrderPlaced", version=2, id="order_id", supersedes=OrderPlacedV1, rename="camel"
):
    """An order was accepted; its quantities are promised until cancelled or shipped."""

    order_id: str
    lines: list[OrderLine]


class OrderCancelledV1(Event, type="OrderCancelled", version=1, id="cancellation_id"):
    """The contract without kits."""

    cancellation_id: str
    order_id: str
    lines: list[_LineV1]

    def upcast(self) -> OrderCancelled:
        """Return it as version 2."""
        return OrderCancelled(
            cancellation_id=self.cancellation_id, order_id=self.order_id, lines=_lines(self.lines)
        )


class OrderCancelled(
    Event,
    type="OrderCancelled",
    version=2,
    id="cancellation_id",
    supersedes=OrderCancelledV1,
    rename="camel",
):
    """Quantities of an order are not wanted any more; an order may be cancelled in parts."""

    cancellation_id: str
    order_id: str
    lines: list[OrderLine]


class OrderShippedV1(Event, type="OrderShipped", version=1, id="shipment_id"):
    """The contract without kits."""

    shipment_id: str
    order_id: str
    lines: list[_LineV1]

    def upcast(self) -> OrderShipped:
        """Return it as version 2."""
        return OrderShipped(
            shipment_id=self.shipment_id, order_id=self.order_id, lines=_lines(self.lines)
        )


class OrderShipped(
    Event,
    type="OrderShipped",
    version=2,
    id="shipment_id",
    supersedes=OrderShippedV1,
    rename="camel",
):
    """Quantities of an order left the building; an order may be shipped in parts."""

    shipment_id: str
    order_id: str
    lines: list[OrderLine]


class ReturnReceived(Event, type="ReturnReceived", version=1, id="return_id", rename="camel"):
    """Goods of an order line came back.

    Attributes:
        disposition: ``restock`` can be sold again; ``damaged`` and ``quality_control`` are on hand
            and not available.
        components: those of a kit, as in `OrderLine`.
    """

    return_id: str
    order_id: str
    line_id: str
    sku: str
    location_id: str
    quantity: int
    disposition: Literal["restock", "damaged", "quality_control"] = "restock"
    components: tuple[Component, ...] = ()
    sequence: int | None = None


class StockReceivedV1(Event, type="StockReceived", version=1, id="receipt_id"):
    """The contract that knew nothing of incoming goods."""

    receipt_id: str
    sku: str
    location_id: str
    quantity: int

    def upcast(self) -> StockReceived:
        """Return it as version 2."""
        return StockReceived(
            receipt_id=self.receipt_id,
            sku=self.sku,
            location_id=self.location_id,
            quantity=self.quantity,
        )


class StockReceived(
    Event,
    type="StockReceived",
    version=2,
    id="receipt_id",
    supersedes=StockReceivedV1,
    rename="camel",
):
    """Goods arrived and can be sold.

    Attributes:
        from_incoming: how many of them had been announced by `InboundExpected`.
    """

    receipt_id: str
    sku: str
    location_id: str
    quantity: int
    from_incoming: int = 0
    actor: str | None = None
    sequence: int | None = None


class ItemBackInStock(Event, type="ItemBackInStock", version=1, id="receipt_id", rename="camel"):
    """Goods arrived at a stock that had none; the same effect as `StockReceived`."""

    receipt_id: str
    sku: str
    location_id: str
    quantity: int
    from_incoming: int = 0
    actor: str | None = None
    sequence: int | None = None


class InboundExpected(Event, type="InboundExpected", version=1, id="inbound_id", rename="camel"):
    """Goods are on their way; they are not on hand."""

    inbound_id: str
    sku: str
    location_id: str
    quantity: int
    actor: str | None = None
    sequence: int | None = None


class StockTransferred(Event, type="StockTransferred", version=1, id="movement_id", rename="camel"):
    """Goods go from one location to another.

    Attributes:
        movement_id: of this step; `transfer_id` is that of the whole.
        phase: ``out``: they left; they are incoming at the destination. ``in``: they arrived.
            ``lost``: they will not arrive, and are written off.
    """

    movement_id: str
    transfer_id: str
    sku: str
    from_location_id: str
    to_location_id: str
    quantity: int
    phase: Literal["out", "in", "lost"]
    actor: str | None = None


class StockAdjusted(Event, type="StockAdjusted", version=1, id="adjustment_id", rename="camel"):
    """Stock was corrected by hand.

    Attributes:
        quantity: units found (above 0) or missing (below 0).
        reason: such as ``theft`` or ``transfer_out``; must not be empty.
        condition: of the goods; damaged ones and those in quality control count as on hand too.
        actor: who did it.
    """

    adjustment_id: str
    sku: str
    location_id: str
    quantity: int
    reason: str
    condition: Condition = "available"
    actor: str | None = None
    sequence: int | None = None


class StockCounted(Event, type="StockCounted", version=1, id="count_id", rename="camel"):
    """Somebody counted.

    Attributes:
        quantity: units on hand, in whatever condition.
        as_of: the moment whose stock was counted: what moved until then is in the count, however
            late it is told; what moved later is added.
        through_sequence: the count also holds every event of the stock's sequence up to this
            number: a gap before it is closed.
    """

    count_id: str
    sku: str
    location_id: str
    quantity: int
    as_of: datetime
    actor: str | None = None
    sequence: int | None = None
    through_sequence: int | None = None


class StockPolicySet(Event, type="StockPolicySet", version=1, id="policy_id", rename="camel"):
    """How a stock is to be run; of several, the one with the latest time holds.

    Attributes:
        safety_stock: units that are never offered.
        low_stock: `StockLow` is sent when available falls to this; None takes the processor's.
        low_stock_rearm: and again only after it rose above this; None takes the processor's.
    """

    policy_id: str
    sku: str
    location_id: str
    safety_stock: int = 0
    low_stock: int | None = None
    low_stock_rearm: int | None = None
    actor: str | None = None


class ReservationCreated(
    Event, type="ReservationCreated", version=1, id="reservation_id", rename="camel"
):
    """Units are held for somebody, until `expires_at` at the latest.

    Attributes:
        components: those of a kit, as in `OrderLine`; each part's stock then holds units.
    """

    reservation_id: str
    sku: str
    location_id: str
    quantity: int
    expires_at: datetime
    components: tuple[Component, ...] = ()
    sequence: int | None = None


class ReservationReleased(
    Event, type="ReservationReleased", version=1, id="reservation_id", rename="camel"
):
    """The units are not held any more."""

    reservation_id: str
    sku: str
    location_id: str
    components: tuple[Component, ...] = ()
    sequence: int | None = None


class ReservationCommitted(
    Event, type="ReservationCommitted", version=1, id="reservation_id", rename="camel"
):
    """The units became those of an order line.

    They are promised to the line from then on; once its `OrderPlaced` arrives, that says how many
    units are.
    """

    reservation_id: str
    sku: str
    location_id: str
    quantity: int
    order_id: str
    line_id: str
    components: tuple[Component, ...] = ()
    sequence: int | None = None


def _lines(lines: list[_LineV1]) -> list[OrderLine]:
    return [
        OrderLine(
            line_id=line.line_id,
            sku=line.sku,
            location_id=line.location_id,
            quantity=line.quantity,
        )
        for line in lines
    ]
