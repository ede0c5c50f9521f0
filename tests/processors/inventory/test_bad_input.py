"""Every kind of bad input has an outcome that somebody sees: never a silent correction."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamproc import ConfigError, Event
from streamproc.testing import Harness
from streamproc_inventory import (
    Component,
    InventoryAnomaly,
    InventoryProcessor,
    OrderLine,
    ReturnReceived,
)

from .making import (
    OTHER,
    SKU,
    START,
    WAREHOUSE,
    At,
    adjusted,
    back_in_stock,
    cancelled,
    committed,
    counted,
    deliver,
    expected,
    kit,
    levels,
    line,
    placed,
    policy,
    received,
    released,
    reserved,
    returned,
    shipped,
    stock,
    transferred,
)

NESTED = Component(sku="WHEEL", quantity=1, components=(b"{}",))  # type: ignore[arg-type]


def with_parts(*parts: Component) -> OrderLine:
    return line(1, "2", "KIT", components=parts)


REJECTED: list[tuple[Event, str]] = [
    (placed("bad"), "no-lines"),
    (placed("bad", line(1), line(0, "2")), "quantity-not-positive"),
    (placed("bad", line(0)), "quantity-not-positive"),
    (cancelled("bad", "o1", line(1), line(-1, "2")), "quantity-not-positive"),
    (shipped("bad", "o1", line(1), line(1_000_000_001, "2")), "quantity-too-large"),
    (placed("bad", line(1), line(1, "2", sku="")), "no-sku"),
    (placed("bad", line(1), line(1, "2", at="")), "no-location"),
    (placed("bad", line(1), line(1, "2", sku="a\nb")), "unprintable-name"),
    (placed("bad", line(1), with_parts(Component("a\0", 1))), "unprintable-name"),
    (received("bad", 1, at="W\x1b"), "unprintable-name"),
    (reserved("b\ad", 1, 100), "unprintable-name"),
    (placed("bad", line(1), line(1, "")), "no-line"),
    (placed("bad", line(1, sequence=0)), "sequence-not-positive"),
    (cancelled("bad", "", line(1)), "no-order"),
    (placed("bad", line(1), with_parts(NESTED)), "nested-kit"),
    (placed("bad", line(1), with_parts(Component("KIT", 1))), "nested-kit"),
    (placed("bad", line(1), with_parts(Component("", 1))), "no-sku"),
    (placed("bad", line(1), with_parts(Component("WHEEL", 0))), "quantity-not-positive"),
    (placed("bad", line(1), with_parts(Component("WHEEL", 10**10))), "quantity-too-large"),
    (
        placed("bad", line(2, "2", "KIT", components=(Component("WHEEL", 600_000_000),))),
        "quantity-too-large",
    ),
    (placed("bad", with_parts(*[Component(f"P{n}", 1) for n in range(10_000)])), "too-many-parts"),
    (placed("bad", *[line(1, str(n)) for n in range(501)]), "too-many-parts"),
    (
        placed("bad", line(1, "2", "KIT", components=(Component("WHEEL", 1),), sequence=4)),
        "kit-with-sequence",
    ),
    (placed("bad", line(1, sequence=1), line(2, sequence=2)), "line-with-two-sequences"),
    (received("bad", 0), "quantity-not-positive"),
    (received("bad", -3), "quantity-not-positive"),
    (received("bad", 10**30), "quantity-too-large"),
    (received("bad", 1, sku=""), "no-sku"),
    (received("bad", 1, at=""), "no-location"),
    (received("bad", 1, sequence=0), "sequence-not-positive"),
    (received("bad", 1, from_incoming=2), "from-incoming-not-possible"),
    (received("bad", 1, from_incoming=-1), "from-incoming-not-possible"),
    (back_in_stock("bad", -1), "quantity-not-positive"),
    (expected("bad", 0), "quantity-not-positive"),
    (returned("bad", "o1", 0), "quantity-not-positive"),
    (returned("bad", "", 1), "no-order"),
    (returned("bad", "o1", 1, line_id=""), "no-line"),
    (transferred("bad", "out", 0), "quantity-not-positive"),
    (transferred("bad", "out", 1, target=WAREHOUSE), "transfer-to-itself"),
    (transferred("bad", "in", 1, transfer_id=""), "no-transfer"),
    (transferred("bad", "in", 1, source=""), "no-location"),
    (transferred("bad", "out", 1, target=""), "no-location"),
    (adjusted("bad", 0), "quantity-not-positive"),
    (adjusted("bad", -(10**10)), "quantity-too-large"),
    (adjusted("bad", 1, reason=""), "no-reason"),
    (counted("bad", -1, as_of=0), "quantity-negative"),
    (counted("bad", 10**10, as_of=0), "quantity-too-large"),
    (counted("bad", 1, as_of=100 * 86_400), "from-the-future"),
    (counted("bad", 1, as_of=0, through_sequence=0), "sequence-not-positive"),
    (policy("bad", -1), "quantity-not-possible"),
    (policy("bad", 0, low_stock=5, low_stock_rearm=4), "rearm-below-threshold"),
    (policy("bad", 0, low_stock_rearm=4), "rearm-below-threshold"),
    (reserved("bad", 0, 100), "quantity-not-positive"),
    (reserved("bad", 1, 100, sequence=0), "sequence-not-positive"),
    (released("bad", sku=""), "no-sku"),
    (committed("bad", 1, ""), "no-order"),
    (committed("bad", 0, "o1"), "quantity-not-positive"),
]


@pytest.mark.parametrize(("bad", "reason"), REJECTED)
async def test_a_senseless_event_is_rejected_as_a_whole(bad: Event, reason: str) -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5), placed("o1", line(2)))
        before, told = stock(h), len(h.emitted)
        await h.send(bad)
        assert [letter.reason for letter in h.dead_letters] == [reason]
        assert stock(h) == before
        assert len(h.emitted) == told


@pytest.mark.parametrize(
    ("field", "value"),
    [("quantity", 1.5), ("quantity", "3"), ("quantity", None), ("quantity", True), ("sku", None)],
)
async def test_a_fractional_or_mistyped_quantity_is_a_dead_letter(field: str, value: Any) -> None:
    data = {"receiptId": "bad", "sku": SKU, "locationId": WAREHOUSE, "quantity": 1, field: value}
    envelope = {"specversion": "1.0", "id": "x", "type": "StockReceived.v2", "data": data}
    async with Harness(InventoryProcessor()) as h:
        await h.send_raw(json.dumps(envelope).encode())
        assert [letter.reason for letter in h.dead_letters] == ["bad-shape"]
        assert stock(h).version == 0


async def test_a_time_without_an_offset_is_a_dead_letter() -> None:
    data = {
        "countId": "bad",
        "sku": SKU,
        "locationId": WAREHOUSE,
        "quantity": 1,
        "asOf": "2026-01-01T00:00:00",
    }
    envelope = {"specversion": "1.0", "id": "x", "type": "StockCounted.v1", "data": data}
    async with Harness(InventoryProcessor()) as h:
        await h.send_raw(json.dumps(envelope).encode())
        assert [letter.reason for letter in h.dead_letters] == ["time-without-offset"]


@pytest.mark.parametrize(
    ("year", "reason"), [(1990, "too-late"), (2025, "too-late"), (2027, "from-the-future")]
)
async def test_an_event_of_another_time_is_a_dead_letter(year: int, reason: str) -> None:
    async with Harness(InventoryProcessor()) as h:
        now = h.now
        made = h.record(received("r1", 5), time=f"{year}-06-01T00:00:00Z")
        h.now = now
        await h.process(h.raw_record(made.data))  # arrives now
        assert [letter.reason for letter in h.dead_letters] == [reason]


async def test_lateness_has_a_bound_that_can_be_set_and_taken_away() -> None:
    for bound, taken in ((100.0, False), (200.0, True), (0.0, True)):
        async with Harness(InventoryProcessor(max_lateness=bound)) as h:
            h.now = START + 150
            await h.process(h.record(received("r1", 5), time=START))
            assert bool(h.dead_letters) is not taken


async def test_an_unknown_location_is_a_dead_letter_where_locations_are_listed() -> None:
    processor = InventoryProcessor(locations=[WAREHOUSE])
    h = await deliver(
        [
            received("r1", 5),
            received("r2", 5, at=OTHER),
            placed("o1", line(1), line(1, "2", at=OTHER)),
            transferred("m1", "out", 1),
        ],
        processor=processor,
    )
    assert [letter.reason for letter in h.dead_letters] == ["unknown-location"] * 3
    assert levels(h) == {"on_hand": 5, "available": 5}


@pytest.mark.parametrize(
    "first", [placed("o1", line(2)), shipped("s1", "o1", line(2)), reserved("v1", 2, 1e6)]
)
async def test_selling_what_was_never_there_is_an_anomaly(first: Event) -> None:
    h = await deliver([first, placed("o2", line(1))])
    told = [each for each in h.emitted_as(InventoryAnomaly) if each.kind == "unknown-stock"]
    assert [(each.sku, each.location_id) for each in told] == [(SKU, WAREHOUSE)]


async def test_a_shipment_beyond_the_order_is_told_and_followed() -> None:
    h = await deliver([received("r1", 9), placed("o1", line(2)), shipped("s1", "o1", line(5))])
    assert levels(h) == {"on_hand": 4, "available": 4}
    assert stock(h).book.over_closed == 3
    (told,) = h.emitted_as(InventoryAnomaly)
    assert (told.kind, told.subject, told.quantity) == ("over-closed", "o1/1", 3)
    assert told.detail == "2 placed, 0 cancelled, 5 shipped"


async def test_a_return_beyond_the_shipment_is_told_and_followed() -> None:
    h = await deliver(
        [
            received("r1", 9),
            placed("o1", line(2)),
            shipped("s1", "o1", line(1)),
            returned("b1", "o1", 3),
        ]
    )
    assert levels(h) == {"on_hand": 11, "committed": 1, "available": 10}
    assert stock(h).book.over_returned == 2
    (told,) = h.emitted_as(InventoryAnomaly)
    assert (told.kind, told.subject, told.quantity) == ("over-returned", "o1/1", 2)


async def test_a_contradiction_that_a_late_event_resolves_is_counted_no_more() -> None:
    h = await deliver(
        [
            At(0, received("r1", 9)),
            At(1, placed("o1", line(4))),
            At(4, shipped("s1", "o1", line(1))),
            At(5, returned("b1", "o1", 3)),
            At(3, shipped("s2", "o1", line(3))),
        ]
    )
    assert [each.kind for each in h.emitted_as(InventoryAnomaly)] == ["over-returned"]
    assert stock(h).book.over_returned == 0


async def test_taking_more_damaged_goods_out_than_in_is_a_clamp_that_is_told() -> None:
    h = await deliver([received("r1", 9), adjusted("a1", -2, condition="damaged")])
    assert stock(h).damaged == 0
    assert stock(h).book.damaged_short == 2
    (told,) = h.emitted_as(InventoryAnomaly)
    assert (told.kind, told.quantity) == ("negative-damaged", 2)


async def test_shipping_what_never_arrived_is_told_once_for_each_fall_below_zero() -> None:
    events = [
        received("r1", 1),
        placed("o1", line(9)),
        shipped("s1", "o1", line(2)),  # -1
        shipped("s2", "o1", line(1)),  # -2
        received("r2", 5),  # 3
        shipped("s3", "o1", line(4)),  # -1
    ]
    h = await deliver(events)
    told = [(e.kind, e.on_hand) for e in h.emitted_as(InventoryAnomaly)]
    assert told == [("negative-on-hand", -1), ("negative-on-hand", -1)]


async def test_of_two_events_with_one_id_the_first_holds_and_the_second_is_counted() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5))
        await h.send(received("r1", 50))
        assert stock(h).on_hand == 5
        assert h.statistics.duplicates == 1


async def test_an_order_told_again_when_its_id_is_forgotten_is_told_and_not_applied() -> None:
    async with Harness(InventoryProcessor(max_lateness=0)) as h:
        await h.send(received("r1", 9), placed("o1", line(2)), reserved("v1", 1, 3e6))
        h.now += 1_000_000  # past the dedupe TTL
        await h.send(placed("o1", line(3)), reserved("v1", 4, 3e6))
        assert levels(h) == {"on_hand": 9, "committed": 2, "reserved": 1, "available": 6}
        told = [(each.kind, each.quantity) for each in h.emitted_as(InventoryAnomaly)]
        assert told == [("placed-twice", 3), ("reserved-twice", 4)]


async def test_a_kit_whose_return_names_no_parts_shows_as_a_stock_nobody_knows() -> None:
    h = await deliver(
        [
            received("r1", 9, "WHEEL"),
            placed("o1", kit(1, WHEEL=2)),
            ReturnReceived("b1", "o1", "1", "KIT", WAREHOUSE, 1),
        ]
    )
    assert [e.sku for e in h.emitted_as(InventoryAnomaly) if e.kind == "unknown-stock"] == ["KIT"]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"low_stock": 5, "low_stock_rearm": 4}, "low_stock_rearm"),
        ({"max_lateness": -1.0}, "max_lateness"),
        ({"max_earliness": -1.0}, "max_earliness"),
        ({"max_open_lines": 0}, "max_open_lines"),
        ({"settled_lines_kept": -1}, "settled_lines_kept"),
        ({"moves_kept": -1}, "moves_kept"),
        ({"max_parked": 0}, "max_parked"),
    ],
)
def test_settings_without_sense_are_refused_by_name(setting: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"processors\.inventory\.{name}"):
        InventoryProcessor(**setting)


async def test_of_two_different_events_with_one_id_the_first_holds() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("twice", 5))
        await h.send(received("twice", 70))
        assert stock(h).on_hand == 5
        assert h.statistics.duplicates == 1
