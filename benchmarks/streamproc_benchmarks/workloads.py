"""What the streams of a benchmark hold: CloudEvents of about 405 bytes, the same for one seed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec

from streamproc.kinesis.api import PutEntry

__all__ = ["WORKLOADS", "WorkloadName", "make_entries", "mean_bytes"]

WorkloadName = Literal["events", "payments", "orders"]
WORKLOADS: Final[tuple[WorkloadName, ...]] = get_args(WorkloadName)

EVENT_BYTES: Final = 405
"""What a payload is filled up to; the longest ones are a little more."""

# Event time does not hang on when the benchmark runs, so that one seed gives one outcome.
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Wide enough that even the busiest card seldom pays six times a minute.
_EVENT_INTERVAL_S: Final = 0.5
_EVENTS_PER_CARD: Final = 20
_ORDERS_PER_STOCK: Final = 20
_LOCATIONS: Final = ("WH-EU-1", "WH-EU-2", "WH-US-1", "WH-AP-1")

_encode = msgspec.json.encode


def make_entries(workload: WorkloadName, count: int, seed: int) -> list[PutEntry]:
    """Return `count` records to put.

    ``events`` are `BenchmarkEvent`s. ``payments`` fall on count / 20 cards, some far busier than
    others, half a second of event time apart, a few of them worth a flag. ``orders`` are orders of
    one or two lines over count / 20 stocks, shipped or cancelled later, and receipts of goods.
    """
    rng = random.Random(f"{workload}:{seed}")
    makers: dict[str, Callable[[random.Random, int], Iterator[PutEntry]]] = {
        "events": _events,
        "payments": _payments,
        "orders": _orders,
    }
    return list(makers[workload](rng, count))


def mean_bytes(entries: list[PutEntry]) -> float:
    """Return the mean payload size in bytes, partition key not included."""
    return sum(len(entry.data) for entry in entries) / len(entries)


def _events(rng: random.Random, count: int) -> Iterator[PutEntry]:
    for index in range(count):
        account = _skewed(rng, "acc", count)
        data = {
            "event_id": f"evt_{index:012d}",
            "account_id": account,
            "amount_minor": _amount(rng),
            "currency": "EUR",
            "terminal_id": f"term_{rng.randrange(5_000):05d}",
            "channel": "POS",
            "note": "",
        }
        yield _entry(rng, index, "benchmark.BenchmarkEvent.v1", account, data, pad="note")


def _payments(rng: random.Random, count: int) -> Iterator[PutEntry]:
    for index in range(count):
        card = _skewed(rng, "card", count)
        data = {
            "payment_id": f"pay_{index:012d}",
            "card_id": card,
            "customer_id": card.replace("card", "cus"),
            "terminal_id": f"term_{rng.randrange(5_000):05d}",
            "amount_minor": _amount(rng),
            "currency": "EUR",
            "ip": f"203.0.113.{rng.randrange(256)}",
            "channel": "POS",
        }
        yield _entry(rng, index, "payments.PaymentAuthorized.v1", card, data)


def _orders(rng: random.Random, count: int) -> Iterator[PutEntry]:
    stocks = max(1, count // _ORDERS_PER_STOCK)
    open_orders: list[tuple[str, list[dict[str, Any]]]] = []
    for index in range(count):
        dice = rng.random()
        if dice < 0.1:
            sku, location = _stock(rng, stocks)
            receipt = {
                "receiptId": f"rcp_{index:012d}",
                "sku": sku,
                "locationId": location,
                "quantity": 20,
            }
            yield _entry(rng, index, "stock.StockReceived.v2", sku, receipt)
        elif dice < 0.55 and open_orders:
            order_id, lines = open_orders.pop(0)
            if rng.random() < 0.1:
                kind, name, prefix = "OrderCancelled", "cancellationId", "can"
            else:
                kind, name, prefix = "OrderShipped", "shipmentId", "shp"
            closed = {name: f"{prefix}_{index:012d}", "orderId": order_id, "lines": lines}
            yield _entry(rng, index, f"orders.{kind}.v2", order_id, closed)
        else:
            order_id = f"ord_{index:012d}"
            lines = [_line(rng, number, stocks) for number in range(rng.choice((1, 1, 2)))]
            open_orders.append((order_id, lines))
            placed = {"orderId": order_id, "lines": lines}
            yield _entry(rng, index, "orders.OrderPlaced.v2", order_id, placed)


def _line(rng: random.Random, number: int, stocks: int) -> dict[str, Any]:
    sku, location = _stock(rng, stocks)
    return {
        "lineId": str(number + 1),
        "sku": sku,
        "locationId": location,
        "quantity": rng.randint(1, 3),
    }


def _stock(rng: random.Random, stocks: int) -> tuple[str, str]:
    number = _pick(rng, stocks)
    return f"SKU-{number // len(_LOCATIONS):06d}", _LOCATIONS[number % len(_LOCATIONS)]


def _skewed(rng: random.Random, prefix: str, count: int) -> str:
    return f"{prefix}_{_pick(rng, max(1, count // _EVENTS_PER_CARD)):07d}"


def _pick(rng: random.Random, keys: int) -> int:
    """Return a key's number; the first hundredth of the keys gets about a twentieth of all."""
    return int(keys * rng.random() ** 1.5)


def _amount(rng: random.Random) -> int:
    return max(1, int(rng.lognormvariate(8.3, 0.8)))


def _entry(
    rng: random.Random,
    index: int,
    kind: str,
    key: str,
    data: dict[str, Any],
    pad: str | None = None,
) -> PutEntry:
    """Wrap `data`, filled up in its field `pad` or in a trace context as producers send it."""
    time = _EPOCH + timedelta(seconds=index * _EVENT_INTERVAL_S)
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "source": "https://example.com/shop",
        "type": f"com.example.{kind}",
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }
    missing = EVENT_BYTES - len(_encode(envelope))
    if missing > 0 and pad is not None:
        data[pad] = "x" * missing
    elif missing > len(',"tracestate":""'):
        text = f"{rng.getrandbits(1024):0256x}"
        envelope["tracestate"] = text[: missing - len(',"tracestate":""')]
    return PutEntry(data=_encode(envelope), partition_key=key)
