"""The contracts on the wire: what producers write, and what others read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from streamproc.testing import Harness
from streamproc_inventory import InventoryProcessor, LedgerEntry, OrderLine

from .making import line, placed, received, reserved, shipped, stock

ORDER: dict[str, Any] = {
    "specversion": "1.0",
    "id": "7b1c7d90",
    "source": "https://shop.example/orders",
    "type": "com.example.orders.OrderPlaced.v2",
    "subject": "ord_100045",
    "time": "2026-01-01T01:17:42.512Z",
    "datacontenttype": "application/json",
    "partitionkey": "ord_100045",
    "data": {
        "orderId": "ord_100045",
        "orderVersion": 1,
        "customerId": "596",
        "lines": [
            {"lineId": "1", "sku": "SKU-RED-42", "locationId": "WH-EU-1", "quantity": 2},
            {
                "lineId": "2",
                "sku": "KIT-BIKE",
                "locationId": "WH-EU-1",
                "quantity": 1,
                "components": [{"sku": "FRAME", "quantity": 1}, {"sku": "WHEEL", "quantity": 2}],
            },
        ],
    },
}


async def test_an_order_with_a_kit_as_producers_write_it() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send_raw(json.dumps(ORDER).encode())
        assert h.dead_letters == []
        committed = {
            sku: stock(h, sku, "WH-EU-1").committed
            for sku in ("SKU-RED-42", "KIT-BIKE", "FRAME", "WHEEL")
        }
        assert committed == {"SKU-RED-42": 2, "KIT-BIKE": 0, "FRAME": 1, "WHEEL": 2}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("OrderPlaced", {"order_id": "o1"}),
        ("OrderCancelled", {"cancellation_id": "c1", "order_id": "o1"}),
        ("OrderShipped", {"shipment_id": "s1", "order_id": "o1"}),
    ],
)
async def test_version_1_of_an_order_event_is_still_read(kind: str, data: dict[str, str]) -> None:
    lines = [{"line_id": "1", "sku": "A", "location_id": "W", "quantity": 3}]
    envelope = {
        "specversion": "1.0",
        "id": "x",
        "type": f"{kind}.v1",
        "data": {**data, "lines": lines},
    }
    async with Harness(InventoryProcessor()) as h:
        await h.send_raw(json.dumps(envelope).encode())
        known = stock(h, "A", "W").book.known_line("o1/1")
        assert known is not None
        assert max(known.placed, known.cancelled, known.shipped) == 3


async def test_version_1_of_a_receipt_is_still_read() -> None:
    data = {"receipt_id": "r", "sku": "A", "location_id": "W", "quantity": 3}
    envelope = {"specversion": "1.0", "id": "x", "type": "StockReceived.v1", "data": data}
    async with Harness(InventoryProcessor()) as h:
        await h.send_raw(json.dumps(envelope).encode())
        assert stock(h, "A", "W").on_hand == 3


async def test_the_state_is_json_that_others_can_read() -> None:
    async with Harness(InventoryProcessor(), group="shop") as h:
        await h.send(
            received("r1", 5),
            placed("o1", OrderLine(line_id="7", sku="A|B", location_id="W", quantity=6)),
            received("r2", 2, sku="A|B", at="W"),
            reserved("v1", 1, 60, sku="A|B", at="W"),
        )
        key = h.store.keys.state_prefix("inventory") + "A%7CB|W"
        stored = h.store.stored(key)
    assert stored is not None
    assert msgspec.json.decode(stored) == {
        "on_hand": 2,
        "committed": 6,
        "reserved": 1,
        "incoming": 0,
        "damaged": 0,
        "quality_control": 0,
        "safety_stock": 0,
        "available": -5,
        "oversold": 5,
        "version": 3,
        "last_event": "v1",
        "updated_ms": 1767225600000,
        "book": {
            "lines": {"o1/7": 6},
            "reservations": {"v1": [1, 1767225660000]},
            "moves": " 1767225600000:2",
            "moves_kept": 1,
        },
    }


async def test_a_ledger_entry_says_who_did_what_and_why() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5, actor="anna"), placed("o1", line(2)))
        await h.send(shipped("s1", "o1", line(2)))
        payloads = [each.payload for each in h.emitted if each.type == "LedgerEntry"]
        assert payloads[0] == {
            "sku": "SKU-1",
            "locationId": "WH-1",
            "version": 1,
            "what": "received",
            "eventId": "r1",
            "eventType": "StockReceived",
            "units": 5,
            "before": [0, 0, 0, 0, 0, 0, 0, 0],
            "after": [5, 0, 0, 0, 0, 0, 0, 5],
            "who": "anna",
        }
        last = h.emitted_as(LedgerEntry)[-1]
        assert (last.what, last.why, last.units) == ("shipped", "o1/1", 2)
        assert {each.key for each in h.emitted} == {"SKU-1|WH-1"}


async def test_the_ledger_can_be_left_out() -> None:
    async with Harness(InventoryProcessor(ledger=False)) as h:
        await h.send(received("r1", 5))
        assert [each.type for each in h.emitted] == ["BackInStock"]
