"""Histories of one stock or several, and what they must come to whatever their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from streamproc import Event
from streamproc.testing import Harness
from streamproc_inventory import (
    InventoryProcessor,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    StockReceived,
)

SKU, WAREHOUSE = "SKU-1", "WH-1"
Levels = tuple[int, int, int, int]
"""on_hand, committed, available, oversold."""


def line(quantity: int, line_id: str = "1", sku: str = SKU, at: str = WAREHOUSE) -> OrderLine:
    return OrderLine(line_id=line_id, sku=sku, location_id=at, quantity=quantity)


def received(receipt_id: str, quantity: int, sku: str = SKU, at: str = WAREHOUSE) -> StockReceived:
    return StockReceived(receipt_id=receipt_id, sku=sku, location_id=at, quantity=quantity)


def placed(order_id: str, *lines: OrderLine) -> OrderPlaced:
    return OrderPlaced(order_id=order_id, lines=list(lines))


def cancelled(cancellation_id: str, order_id: str, *lines: OrderLine) -> OrderCancelled:
    return OrderCancelled(cancellation_id=cancellation_id, order_id=order_id, lines=list(lines))


def shipped(shipment_id: str, order_id: str, *lines: OrderLine) -> OrderShipped:
    return OrderShipped(shipment_id=shipment_id, order_id=order_id, lines=list(lines))


def levels(h: Harness, sku: str = SKU, at: str = WAREHOUSE) -> Levels:
    stock = h.state("inventory", (sku, at))
    return (stock.on_hand, stock.committed, stock.available, stock.oversold)


async def deliver(
    events: Sequence[Event], *, batch: int = 3, processor: InventoryProcessor | None = None
) -> Harness:
    async with Harness(processor or InventoryProcessor()) as h:
        for first in range(0, len(events), batch):
            await h.send(*events[first : first + batch])
    return h


def oracle(events: Iterable[Event]) -> dict[tuple[str, str], Levels]:
    """Return the levels of every stock, from the set of distinct events alone."""
    on_hand: dict[tuple[str, str], int] = defaultdict(int)
    lines: dict[tuple[str, str], dict[tuple[str, str], list[int]]] = defaultdict(
        lambda: defaultdict(lambda: [0, 0, 0])
    )
    distinct = {}
    for event in events:
        field = type(event).__event_id__
        assert field is not None
        distinct[type(event), getattr(event, field)] = event
    for event in distinct.values():
        if isinstance(event, StockReceived):
            on_hand[event.sku, event.location_id] += event.quantity
            continue
        assert isinstance(event, (OrderPlaced, OrderCancelled, OrderShipped))
        for part in event.lines:
            key = (part.sku, part.location_id)
            column = (OrderPlaced, OrderCancelled, OrderShipped).index(type(event))
            lines[key][event.order_id, part.line_id][column] += part.quantity
            on_hand[key] -= part.quantity if isinstance(event, OrderShipped) else 0
    result = {}
    for key, level in on_hand.items():
        committed = sum(max(p - c - s, 0) for p, c, s in lines[key].values())
        result[key] = (level, committed, level - committed, max(committed - level, 0))
    return result
