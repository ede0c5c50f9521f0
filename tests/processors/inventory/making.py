"""Events about stock, made by hand; moments are seconds after `START`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from streamproc import Event
from streamproc.testing import Harness
from streamproc_inventory import (
    Component,
    InboundExpected,
    InventoryProcessor,
    ItemBackInStock,
    LedgerEntry,
    Levels,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    ReservationCommitted,
    ReservationCreated,
    ReservationReleased,
    ReturnReceived,
    Stock,
    StockAdjusted,
    StockCounted,
    StockPolicySet,
    StockReceived,
    StockTransferred,
)

SKU, WAREHOUSE, OTHER = "SKU-1", "WH-1", "WH-2"
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class At(NamedTuple):
    """An event and when it happened, in seconds after `START`."""

    second: float
    event: Event


def moment(second: float) -> datetime:
    return datetime.fromtimestamp(START + second, UTC)


def line(
    quantity: int, line_id: str = "1", sku: str = SKU, at: str = WAREHOUSE, **more: Any
) -> OrderLine:
    return OrderLine(line_id=line_id, sku=sku, location_id=at, quantity=quantity, **more)


def kit(quantity: int, line_id: str = "1", at: str = WAREHOUSE, **parts: int) -> OrderLine:
    """Return a line of kits, each of so many of the parts named."""
    components = tuple(Component(sku=sku, quantity=units) for sku, units in parts.items())
    return OrderLine(
        line_id=line_id, sku="KIT", location_id=at, quantity=quantity, components=components
    )


def placed(order_id: str, *lines: OrderLine) -> OrderPlaced:
    return OrderPlaced(order_id=order_id, lines=list(lines))


def cancelled(cancellation_id: str, order_id: str, *lines: OrderLine) -> OrderCancelled:
    return OrderCancelled(cancellation_id=cancellation_id, order_id=order_id, lines=list(lines))


def shipped(shipment_id: str, order_id: str, *lines: OrderLine) -> OrderShipped:
    return OrderShipped(shipment_id=shipment_id, order_id=order_id, lines=list(lines))


def returned(
    return_id: str,
    order_id: str,
    quantity: int,
    disposition: Literal["restock", "damaged", "quality_control"] = "restock",
    line_id: str = "1",
    sku: str = SKU,
    at: str = WAREHOUSE,
    **more: Any,
) -> ReturnReceived:
    return ReturnReceived(
        return_id=return_id,
        order_id=order_id,
        line_id=line_id,
        sku=sku,
        location_id=at,
        quantity=quantity,
        disposition=disposition,
        **more,
    )


def received(
    receipt_id: str, quantity: int, sku: str = SKU, at: str = WAREHOUSE, **more: Any
) -> StockReceived:
    return StockReceived(receipt_id=receipt_id, sku=sku, location_id=at, quantity=quantity, **more)


def back_in_stock(receipt_id: str, quantity: int, **more: Any) -> ItemBackInStock:
    return ItemBackInStock(
        receipt_id=receipt_id, sku=SKU, location_id=WAREHOUSE, quantity=quantity, **more
    )


def expected(
    inbound_id: str, quantity: int, sku: str = SKU, at: str = WAREHOUSE
) -> InboundExpected:
    return InboundExpected(inbound_id=inbound_id, sku=sku, location_id=at, quantity=quantity)


def transferred(
    movement_id: str,
    phase: Literal["out", "in", "lost"],
    quantity: int,
    transfer_id: str = "t1",
    sku: str = SKU,
    source: str = WAREHOUSE,
    target: str = OTHER,
) -> StockTransferred:
    return StockTransferred(
        movement_id=movement_id,
        transfer_id=transfer_id,
        sku=sku,
        from_location_id=source,
        to_location_id=target,
        quantity=quantity,
        phase=phase,
    )


def adjusted(
    adjustment_id: str,
    quantity: int,
    reason: str = "found",
    sku: str = SKU,
    at: str = WAREHOUSE,
    **more: Any,
) -> StockAdjusted:
    return StockAdjusted(
        adjustment_id=adjustment_id,
        sku=sku,
        location_id=at,
        quantity=quantity,
        reason=reason,
        **more,
    )


def counted(
    count_id: str, quantity: int, as_of: float, sku: str = SKU, at: str = WAREHOUSE, **more: Any
) -> StockCounted:
    return StockCounted(
        count_id=count_id,
        sku=sku,
        location_id=at,
        quantity=quantity,
        as_of=moment(as_of),
        **more,
    )


def policy(policy_id: str, safety: int = 0, **more: Any) -> StockPolicySet:
    return StockPolicySet(
        policy_id=policy_id, sku=SKU, location_id=WAREHOUSE, safety_stock=safety, **more
    )


def reserved(
    reservation_id: str,
    quantity: int,
    expires: float,
    sku: str = SKU,
    at: str = WAREHOUSE,
    **more: Any,
) -> ReservationCreated:
    return ReservationCreated(
        reservation_id=reservation_id,
        sku=sku,
        location_id=at,
        quantity=quantity,
        expires_at=moment(expires),
        **more,
    )


def released(
    reservation_id: str, sku: str = SKU, at: str = WAREHOUSE, **more: Any
) -> ReservationReleased:
    return ReservationReleased(reservation_id=reservation_id, sku=sku, location_id=at, **more)


def committed(
    reservation_id: str,
    quantity: int,
    order_id: str,
    line_id: str = "1",
    sku: str = SKU,
    at: str = WAREHOUSE,
    **more: Any,
) -> ReservationCommitted:
    return ReservationCommitted(
        reservation_id=reservation_id,
        sku=sku,
        location_id=at,
        quantity=quantity,
        order_id=order_id,
        line_id=line_id,
        **more,
    )


async def deliver(
    events: Sequence[Event | At], batch: int = 1, processor: InventoryProcessor | None = None
) -> Harness:
    """Process events in batches; return the harness, whose stocks and outbox can be read."""
    async with Harness(processor or InventoryProcessor()) as h:
        for start in range(0, len(events), batch):
            await h.process(*[record(h, each) for each in events[start : start + batch]])
    return h


def record(h: Harness, event: Event | At) -> Any:
    """Return the record of an event; one without a moment happened at `START`."""
    second, event = event if isinstance(event, At) else (0.0, event)
    now = h.now
    made = h.record(event, time=START + second)
    h.now = now  # its arrival is now, whenever it happened
    return made


def stock(h: Harness, sku: str = SKU, at: str = WAREHOUSE) -> Stock:
    """Return what is stored of a stock."""
    found: Stock | None = h.state("inventory", (sku, at))
    return Stock() if found is None else found


def levels(h: Harness, sku: str = SKU, at: str = WAREHOUSE) -> dict[str, int]:
    """Return the levels that are not 0, by name."""
    return shown(stock(h, sku, at).levels)


def shown(found: Levels) -> dict[str, int]:
    return {name: value for name, value in msgspec.structs.asdict(found).items() if value}


def emitted_since(h: Harness, told: int) -> list[tuple[str, Any]]:
    """Return type and payload of what was emitted after the first `told` events."""
    return [
        (entry["type"].decode(), msgspec.json.decode(entry["data"])["data"])
        for entry in h.store.outbox[told:]
    ]


def ledger(h: Harness, sku: str = SKU, at: str = WAREHOUSE) -> list[LedgerEntry]:
    return [e for e in h.emitted_as(LedgerEntry) if (e.sku, e.location_id) == (sku, at)]
