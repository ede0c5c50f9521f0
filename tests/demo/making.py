"""Records made by hand."""

from __future__ import annotations

import json
from typing import Any, Literal

from streamproc_benchmarks.demo.workload import Record
from streamproc_inventory.simulation.shelf import Place, Shelf

Kind = Literal["event", "duplicate", "poison"]


def event(
    type: str, data: dict[str, Any], *, second: float = 0, kind: Kind = "event", id: str = "m"
) -> Record:
    minutes, seconds = divmod(second, 60)
    time = f"2026-03-02T10:{int(minutes):02}:{seconds:06.3f}Z"
    return Record(
        json.dumps({"id": id, "type": f"{type}.v2", "time": time, "data": data}).encode(), "k", kind
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


def placed(order_id: str, quantity: int, **more: Any) -> Record:
    line = {"lineId": "1", "sku": "s", "locationId": "x", "quantity": quantity} | more
    return event("OrderPlaced", {"orderId": order_id, "lines": [line]})


def reserved(id: str, quantity: int, **more: Any) -> Record:
    data = {"reservationId": id, "sku": "s", "locationId": "x", "quantity": quantity} | more
    return event("ReservationCreated", data)


def reservation_ends(how: Literal["Released", "Committed"], id: str) -> Record:
    return event(f"Reservation{how}", {"reservationId": id, "sku": "s", "locationId": "x"})


def counted(id: str, quantity: int, *, minute: int = 0) -> Record:
    moment = f"2026-03-02T10:{minute:02}:00Z"
    data = {"countId": id, "sku": "s", "locationId": "x", "quantity": quantity, "asOf": moment}
    return event("StockCounted", data)


def books(**shelf: int) -> dict[Place, Shelf]:
    """Return a shop's books with one stock, ``s|x``."""
    place = ("s", "x")
    return {place: Shelf(place, **shelf)}
