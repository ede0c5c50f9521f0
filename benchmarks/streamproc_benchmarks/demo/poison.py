"""Records that no processor can take: each of its own kind, so that every refusal is exercised."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

__all__ = ["POISON_KINDS", "poison"]

_TIME: Final = "2026-03-02T12:00:00.000Z"


def _envelope(type: str, number: int, data: Any) -> bytes:
    return msgspec.json.encode(
        {"specversion": "1.0", "id": f"poison-{number}", "type": type, "time": _TIME, "data": data}
    )


def _payment(number: int, **changed: Any) -> bytes:
    sound = {
        "payment_id": f"bad-pay-{number}",
        "card_id": "card-00000",
        "customer_id": "cust-00000",
        "terminal_id": "term-000",
        "amount_minor": 1_000,
        "currency": "EUR",
    }
    return _envelope("PaymentAuthorized", number, sound | changed)


def _order(number: int, quantity: int) -> bytes:
    line = {"lineId": "1", "sku": "SKU-00000", "locationId": "WH-EU-1", "quantity": quantity}
    data = {"orderId": f"bad-order-{number}", "lines": [line]}
    return _envelope("OrderPlaced", number, data)


def _receipt(number: int) -> bytes:
    data = {
        "receiptId": f"bad-receipt-{number}",
        "sku": "SKU-00000",
        "locationId": "WH-EU-1",
        "quantity": -5,
    }
    return _envelope("StockReceived", number, data)


_MAKERS: Final[dict[str, Callable[[int, Random], bytes]]] = {
    "garbage": lambda number, rng: b"\x00\xfe" + rng.randbytes(60),
    "negative amount": lambda number, rng: _payment(number, amount_minor=-number - 1),
    "wrong type of field": lambda number, rng: _payment(number, amount_minor="a lot"),
    "invalid UTF-8": lambda number, rng: _payment(number).replace(b"bad-pay", b"bad\xff\xfepay"),
    "empty": lambda number, rng: b"",
    "quantity of zero": lambda number, rng: _order(number, 0),
    "cut off": lambda number, rng: _payment(number)[: rng.randint(20, 120)],
    "no payload": lambda number, rng: msgspec.json.encode(
        {"specversion": "1.0", "id": f"poison-{number}", "type": "OrderPlaced"}
    ),
    "no such currency": lambda number, rng: _payment(number, currency="euro"),
    "negative receipt": lambda number, rng: _receipt(number),
}

POISON_KINDS: Final = tuple(_MAKERS)
"""What can be wrong with a record; made in turn."""


def poison(number: int, rng: Random) -> bytes:
    """Return the payload of the `number`-th poisonous record, counted from 0."""
    return _MAKERS[POISON_KINDS[number % len(POISON_KINDS)]](number, rng)
