"""What is published: reproducible, in order, and with the promised shares."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import pytest

from streamproc.errors import ConfigError
from streamproc_benchmarks.demo.happenings import reference_payments, shop_day
from streamproc_benchmarks.demo.poison import POISON_KINDS, poison
from streamproc_benchmarks.demo.workload import Record, Workload


def made(seed: int, size: int) -> list[Record]:
    workload = Workload(seed, size)
    return [*workload.opening(), *workload.records()]


def envelope(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(record.data)
    return decoded


def identity(record: Record) -> tuple[str, str]:
    event = envelope(record)
    return event["type"], next(iter(event["data"].values()))


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


def test_payments_and_everything_a_shop_does_are_there() -> None:
    types = Counter(envelope(r)["type"] for r in made(1, 5_000) if r.kind == "event")

    assert types.keys() == {
        "PaymentAuthorized.v2", "InboundExpected.v1", "OrderCancelled.v2", "OrderPlaced.v2",
        "OrderShipped.v2", "ReservationCommitted.v1", "ReservationCreated.v1",
        "ReservationReleased.v1", "ReturnReceived.v1", "StockAdjusted.v1", "StockCounted.v1",
        "StockPolicySet.v1", "StockReceived.v2", "StockTransferred.v1",
    }  # fmt: skip
    assert 0.4 < types["PaymentAuthorized.v2"] / types.total() < 0.7


def test_the_opening_fills_every_stock_and_nothing_is_left_out_of_the_day() -> None:
    workload = Workload(1, 5_000)
    opened = [envelope(record)["data"] for record in workload.opening()]
    day = shop_day(1, 1_000)
    published = [r for r in workload.records() if r.kind == "event"]

    assert {(each["sku"], each["locationId"]) for each in opened} == workload.books.keys()
    assert workload.books == day.books
    trade = [r for r in published if not envelope(r)["type"].startswith("Payment")]
    assert [r.partition_key for r in trade] == [happening.key for happening in day.trade]


def test_frauds_are_among_the_payments() -> None:
    workload = Workload(1, 10_000)
    payments = {
        envelope(r)["data"]["payment_id"]
        for r in workload.records()
        if r.kind == "event" and envelope(r)["type"].startswith("Payment")
    }

    assert workload.frauds < payments
    assert 0.001 < len(workload.frauds) / len(payments) < 0.05


def test_payments_without_numpy_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamproc_fraud.world.simulator", None)

    with pytest.raises(ConfigError, match=r"NumPy: pip install 'streamproc\[local\]'"):
        reference_payments(1)


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
    times: dict[str, list[datetime]] = defaultdict(list)
    for record in made(1, 20_000):
        if record.kind == "event":
            times[record.partition_key].append(datetime.fromisoformat(envelope(record)["time"]))

    assert max(len(of_key) for of_key in times.values()) > 20
    assert all(of_key == sorted(of_key) for of_key in times.values())


def test_payments_are_keyed_by_card_orders_by_order_and_stock_by_sku() -> None:
    fields = {
        "PaymentAuthorized": "card_id",
        "OrderPlaced": "orderId",
        "OrderShipped": "orderId",
        "StockReceived": "sku",
        "StockTransferred": "transferId",
    }
    for record in made(1, 3_000):
        if record.kind == "event":
            event = envelope(record)
            field = fields.get(event["type"].partition(".")[0])
            assert field is None or record.partition_key == event["data"][field]


@pytest.mark.parametrize("size", [1, 20, 60])
def test_a_run_too_small_for_a_day_is_as_long_as_the_day_needs(size: int) -> None:
    workload = Workload(1, size)
    kinds = Counter(record.kind for record in workload.records())

    assert kinds.total() == workload.size >= size
    assert kinds["poison"] == 1


@pytest.mark.parametrize("number", range(len(POISON_KINDS)), ids=POISON_KINDS)
def test_poison_differs_from_record_to_record(number: int) -> None:
    import random

    rng = random.Random(1)
    one, other = poison(number, rng), poison(number + len(POISON_KINDS), rng)
    assert (one == other) == (POISON_KINDS[number] == "empty")
