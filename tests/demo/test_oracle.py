"""The oracle against cases worked out by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from streamproc_benchmarks.demo.oracle import Flag, Level, expect
from streamproc_benchmarks.demo.workload import Record
from tests.demo.making import cancelled, event, payment, placed, receipt, shipped


def test_an_order_commits_stock_until_it_is_cancelled_or_shipped() -> None:
    found = expect(
        [receipt("r1", 10)],
        [placed("o1", 3, 2), shipped("s1", "o1", 3), placed("o2", 4), cancelled("c1", "o2", 1)],
    )

    # 10 came, 3 went; open are 2 of o1 and 4 - 1 of o2.
    assert found.levels == {"s|x": Level(on_hand=7, committed=5, available=2)}


def test_stock_does_not_depend_on_the_order_of_events() -> None:
    records = [placed("o1", 5), shipped("s1", "o1", 5), receipt("r2", 1)]

    assert expect([receipt("r1", 6)], records).levels == {"s|x": Level(2, 0, 2)}
    assert expect([receipt("r1", 6)], records[::-1]).levels == {"s|x": Level(2, 0, 2)}


def test_more_ordered_than_there_is_makes_stock_oversold() -> None:
    found = expect([receipt("r1", 2)], [placed("o1", 5)])

    assert found.levels["s|x"].available == -3
    assert found.may_oversell == {"s|x"}


def test_stock_that_the_opening_covers_can_never_be_oversold() -> None:
    assert expect([receipt("r1", 5)], [placed("o1", 5)]).may_oversell == set()
    # A later delivery may come too late.
    assert expect([receipt("r1", 4)], [receipt("r2", 9), placed("o1", 5)]).may_oversell == {"s|x"}


def test_a_duplicate_counts_once_in_everything() -> None:
    once = expect([receipt("r1", 9)], [payment("p1", 500), placed("o1", 1)])
    twice = expect(
        [receipt("r1", 9)],
        [
            payment("p1", 500),
            placed("o1", 1),
            payment("p1", 500, kind="duplicate"),
            receipt("r1", 9, kind="duplicate"),
        ],
    )

    assert (twice.levels, twice.spend, twice.flags) == (once.levels, once.spend, once.flags)
    assert twice.counts == Counter(event=3, duplicate=2)


def test_ids_are_of_their_event_type() -> None:
    found = expect([receipt("1", 9)], [placed("1", 2), shipped("1", "1", 2), cancelled("1", "1")])

    assert found.levels == {"s|x": Level(7, 0, 7)}


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
