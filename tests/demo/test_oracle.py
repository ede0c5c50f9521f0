"""The oracle against cases worked out by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from streamproc_benchmarks.demo.oracle import Expected, Flag, Level
from streamproc_benchmarks.demo.oracle import expect as expect_with
from streamproc_benchmarks.demo.workload import Record
from tests.demo.making import (
    books,
    counted,
    event,
    payment,
    placed,
    receipt,
    reservation_ends,
    reserved,
)

KIT = {"sku": "k", "components": [{"sku": "s", "quantity": 2}, {"sku": "t", "quantity": 1}]}


def expect(opening: list[Record], records: list[Record]) -> Expected:
    return expect_with(opening, records, {})


def test_stock_is_what_the_books_say() -> None:
    shelf = books(
        on_hand=20,
        committed=3,
        incoming=7,
        damaged=2,
        quality_control=1,
        safety_stock=4,
        physical=9,
    )

    assert expect_with([], [], shelf).levels == {"s|x": Level(20, 3, 0, 7, 2, 1, 4, 10)}


@pytest.mark.parametrize(
    "end",
    [
        reservation_ends("Released", "r1"),
        reservation_ends("Committed", "r1"),
        placed("o1", 2, reservationId="r1"),
    ],
    ids=["released", "committed", "used up by an order"],
)
def test_a_reservation_holds_units_until_it_is_ended(end: Record) -> None:
    made = [reserved("r1", 2), reserved("r2", 3)]

    assert expect_with([], made, books(on_hand=9)).levels["s|x"] == Level(
        on_hand=9, reserved=5, available=4
    )
    for records in ([*made, end], [end, *made]):
        assert expect_with([], records, books(on_hand=9)).levels["s|x"] == Level(
            on_hand=9, reserved=3, available=6
        )


def test_a_kits_reservation_holds_its_parts() -> None:
    found = expect_with([], [reserved("r1", 3, **KIT)], books(on_hand=9))

    assert found.levels == {"s|x": Level(on_hand=9, reserved=6, available=3)}


def test_stock_that_the_opening_covers_can_never_be_oversold() -> None:
    assert expect([receipt("r1", 5)], [placed("o1", 5)]).may_oversell == set()
    # A later delivery may come too late.
    assert expect([receipt("r1", 4)], [receipt("r2", 9), placed("o1", 5)]).may_oversell == {"s|x"}


@pytest.mark.parametrize(
    "taker",
    [
        reserved("v", 1),
        event("StockPolicySet", {"policyId": "v", "sku": "s", "locationId": "x", "safetyStock": 1}),
        event("StockAdjusted", {"id": "v", "sku": "s", "locationId": "x", "quantity": -1}),
        event(
            "StockTransferred",
            {"id": "v", "sku": "s", "phase": "out", "fromLocationId": "x", "quantity": 1},
        ),
        event(
            "ReturnReceived",
            {"id": "v", "sku": "s", "locationId": "x", "quantity": 1, "disposition": "damaged"},
        ),
        counted("v", 4),
    ],
    ids=["reservation", "safety stock", "adjustment", "transfer", "damaged return", "count"],
)
def test_whatever_takes_units_may_oversell_what_orders_need(taker: Record) -> None:
    opening, order = [receipt("r1", 5)], placed("o1", 5)

    assert expect(opening, [order]).may_oversell == set()
    assert expect(opening, [taker]).may_oversell == set()
    assert expect(opening, [order, taker]).may_oversell == {"s|x"}


def test_a_count_applies_unless_one_of_a_later_moment_was_told_before() -> None:
    counts = [counted("n1", 5, minute=1), counted("n3", 5, minute=3), counted("n2", 5, minute=2)]

    assert expect([], counts).stock_counts == {"n1": True, "n3": True, "n2": False}


def test_a_kit_may_oversell_its_parts() -> None:
    assert expect([receipt("r1", 6)], [placed("o1", 3, **KIT)]).may_oversell == {"t|x"}
    assert expect([receipt("r1", 5)], [placed("o1", 3, **KIT)]).may_oversell == {"s|x", "t|x"}


def test_a_duplicate_counts_once_in_everything() -> None:
    events = [payment("p1", 500), reserved("r1", 1), placed("o1", 9)]
    again = [Record(each.data, each.partition_key, "duplicate") for each in events]
    once = expect_with([receipt("r1", 10)], events, books(on_hand=9))
    twice = expect_with([receipt("r1", 10)], [*events, *again], books(on_hand=9))

    assert (twice.levels, twice.spend, twice.flags) == (once.levels, once.spend, once.flags)
    assert twice.may_oversell == once.may_oversell == set()
    assert twice.counts == Counter(event=4, duplicate=3)


def test_ids_are_of_their_event_type() -> None:
    found = expect_with([receipt("1", 9)], [reserved("1", 2), placed("1", 2)], books(on_hand=9))

    assert found.levels["s|x"].reserved == 2


def test_card_totals_are_by_currency() -> None:
    found = expect([], [payment("p1", 100), payment("p2", 50), payment("p3", 7, currency="SEK")])

    assert found.spend == {"c": {"EUR": (2, 150), "SEK": (1, 7)}}


@pytest.mark.parametrize(("amount", "flagged"), [(22_000, False), (22_001, True)])
def test_an_amount_over_the_limit_is_flagged(amount: int, flagged: bool) -> None:
    flags = expect([], [payment("p1", amount)]).flags

    assert flags == ({"p1": Flag(("amount-limit",), amount, 1, 0)} if flagged else {})


@pytest.mark.parametrize(("last", "flagged"), [(59.999, True), (60.0, False)])
def test_the_sixth_payment_within_a_minute_is_flagged(last: float, flagged: bool) -> None:
    seconds = [0, 1, 2, 3, 4, last]
    found = expect([], [payment(f"p{n}", 10, second=s) for n, s in enumerate(seconds)])

    assert found.flags == ({"p5": Flag(("velocity",), 10, 6, 5)} if flagged else {})


def test_cards_do_not_share_their_velocity() -> None:
    assert expect([], [payment(f"p{n}", 10, card=f"c{n % 2}") for n in range(10)]).flags == {}


@pytest.mark.parametrize(("amount", "flagged"), [(4_000, False), (4_001, True)])
def test_more_than_four_times_the_mean_is_flagged(amount: int, flagged: bool) -> None:
    records = [payment(f"p{n}", 1_000, second=100 * n) for n in range(4)]
    found = expect([], [*records, payment("p4", amount, second=400)])

    assert found.flags == ({"p4": Flag(("spend-ratio",), amount, 1, 4)} if flagged else {})


def test_three_earlier_payments_are_no_habit() -> None:
    records = [payment(f"p{n}", 10, second=100 * n) for n in range(3)]

    assert expect([], [*records, payment("p3", 1_000, second=400)]).flags == {}


def test_poison_is_expected_in_the_dead_letters_and_nowhere_else() -> None:
    poison = [
        Record(b"", "k", "poison"),
        Record(b"\xff", "k", "poison"),
        Record(b"", "k", "poison"),
    ]
    rejected = event("PaymentAuthorized", {"amount_minor": -1}, kind="poison")
    found = expect([], [*poison, rejected, payment("p1", 5)])

    assert found.dead_letters == Counter({b"": 2, b"\xff": 1, rejected.data: 1})
    assert found.counts == Counter(poison=4, event=1)
    assert found.spend == {"c": {"EUR": (1, 5)}}
