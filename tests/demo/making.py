"""Records made by hand."""

from __future__ import annotations

import json
from typing import Any, Literal

from streamproc_benchmarks.demo.workload import Record

Kind = Literal["event", "duplicate", "poison"]


def event(
    type: str, data: dict[str, Any], *, second: float = 0, kind: Kind = "event", id: str = "m"
) -> Record:
    minutes, seconds = divmod(second, 60)
    time = f"2026-03-02T10:{int(minutes):02}:{seconds:06.3f}Z"
    return Record(
        json.dumps({"id": id, "type": type, "time": time, "data": data}).encode(), "k", kind
    )


def payment(
    id: str,
    amount: int,
    *,
    card: str = "c",
    currency: str = "EUR",
    second: float = 0,
    kind: Kind = "event",
) -> Record:
    data = {"payment_id": id, "card_id": card, "amount_minor": amount, "currency": currency}
    return event("PaymentAuthorized", data, second=second, kind=kind)


def receipt(id: str, quantity: int, *, kind: Kind = "event") -> Record:
    data = {"receiptId": id, "sku": "s", "locationId": "x", "quantity": quantity}
    return event("StockReceived", data, kind=kind)


def order(type: str, id_field: str, id: str, order_id: str, *quantities: int) -> Record:
    lines = [
        {"lineId": str(n), "sku": "s", "locationId": "x", "quantity": quantity}
        for n, quantity in enumerate(quantities, 1)
        if quantity
    ]
    return event(type, {id_field: id, "orderId": order_id, "lines": lines})


def placed(order_id: str, *quantities: int) -> Record:
    return order("OrderPlaced", "orderId", order_id, order_id, *quantities)


def cancelled(id: str, order_id: str, *quantities: int) -> Record:
    return order("OrderCancelled", "cancellationId", id, order_id, *quantities)


def shipped(id: str, order_id: str, *quantities: int) -> Record:
    return order("OrderShipped", "shipmentId", id, order_id, *quantities)
