"""What is published: reproducible, in order, and with the promised shares."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from streamproc_benchmarks.demo.poison import POISON_KINDS, poison
from streamproc_benchmarks.demo.workload import Record, Workload

_IDS = {
    "PaymentAuthorized": "payment_id",
    "OrderPlaced": "orderId",
    "OrderCancelled": "cancellationId",
    "OrderShipped": "shipmentId",
    "StockReceived": "receiptId",
}


def made(seed: int, size: int) -> list[Record]:
    workload = Workload(seed, size)
    return [*workload.opening(), *workload.records()]


def envelope(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(record.data)
    return decoded


def identity(record: Record) -> tuple[str, str]:
    event = envelope(record)
    return event["type"], event["data"][_IDS[event["type"]]]


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    assert made(7, 2_000) == made(7, 2_000)
    assert made(7, 2_000) != made(8, 2_000)
    assert made(7, 2_000) != made(-7, 2_000)


@pytest.mark.parametrize("size", [1_000, 5_000, 20_000])
def test_two_percent_are_duplicates_and_one_in_a_thousand_is_poison(size: int) -> None:
    kinds = Counter(record.kind for record in Workload(3, size).records())

    assert kinds.total() == size
    assert kinds["duplicate"] == pytest.approx(size * 0.02, abs=1)
    assert kinds["poison"] == size // 1_000


def test_every_event_type_is_there_in_numbers() -> None:
    types = Counter(envelope(r)["type"] for r in made(1, 5_000) if r.kind == "event")

    assert types.keys() == _IDS.keys()
    assert min(types.values()) > 100


def test_a_duplicate_repeats_an_earlier_event_under_the_same_key() -> None:
    first: dict[tuple[str, str], Record] = {}
    in_new_envelopes = 0
    for record in made(1, 20_000):
        if record.kind == "poison":
            continue
        original = first.setdefault(identity(record), record)
        if record.kind == "duplicate":
            assert original is not record
            assert original.partition_key == record.partition_key
            assert envelope(original)["data"] == envelope(record)["data"]
            assert envelope(original)["time"] == envelope(record)["time"]
            in_new_envelopes += envelope(original)["id"] != envelope(record)["id"]
        else:
            assert original is record
    assert in_new_envelopes > 100


def test_events_of_a_key_are_in_the_order_of_their_times() -> None:
    times: dict[str, list[str]] = defaultdict(list)
    for record in made(1, 20_000):
        if record.kind == "event":
            times[record.partition_key].append(envelope(record)["time"])

    assert max(len(of_key) for of_key in times.values()) > 50
    assert all(of_key == sorted(of_key) for of_key in times.values())


def test_payments_are_keyed_by_card_orders_by_order_and_stock_by_sku() -> None:
    fields = {"PaymentAuthorized": "card_id", "StockReceived": "sku"}
    for record in made(1, 3_000):
        if record.kind == "event":
            event = envelope(record)
            field = fields.get(event["type"], "orderId")
            assert record.partition_key == event["data"][field]


def test_nothing_is_shipped_that_the_opening_stock_does_not_cover() -> None:
    workload = Workload(1, 20_000)
    left: Counter[tuple[str, str]] = Counter()
    for record in workload.opening():
        receipt = envelope(record)["data"]
        left[receipt["sku"], receipt["locationId"]] += receipt["quantity"]
    shipped = 0
    for record in workload.records():
        if record.kind == "event" and envelope(record)["type"] == "OrderShipped":
            for line in envelope(record)["data"]["lines"]:
                left[line["sku"], line["locationId"]] -= line["quantity"]
                shipped += line["quantity"]
    assert shipped > 1_000
    assert min(left.values()) >= 0


def test_a_tiny_run_has_poison_too() -> None:
    assert Counter(record.kind for record in Workload(1, 60).records())["poison"] == 1


@pytest.mark.parametrize("number", range(len(POISON_KINDS)), ids=POISON_KINDS)
def test_poison_differs_from_record_to_record(number: int) -> None:
    import random

    rng = random.Random(1)
    one, other = poison(number, rng), poison(number + len(POISON_KINDS), rng)
    assert (one == other) == (POISON_KINDS[number] == "empty")
