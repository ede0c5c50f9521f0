"""A card's state: bounded whatever the card does, and readable."""

from __future__ import annotations

import msgspec

from streamproc.testing import Harness
from streamproc_fraud import Card, FraudProcessor, PaymentFlagged, Spend
from streamproc_fraud.card import MAX_BASELINE, MAX_CURRENCIES

from .payments import START, payment

SECOND = 1_000_000


def test_a_hostile_card_stays_small_and_stays_flagged() -> None:
    card = Card()
    count = 0
    for number in range(100_000):
        count = card.pay_at(number, 60 * SECOND, keep=1_000)
    assert len(card.times_us) == 1_000
    assert count == 1_001
    assert len(msgspec.json.encode(card)) < 20_000


def test_of_too_many_times_the_oldest_go_first() -> None:
    card = Card()
    for time_us in (50, 10, 40, 20, 30):
        card.pay_at(time_us, 60, keep=3)
    assert card.times_us == [30, 40, 50]


def test_times_stay_for_two_windows() -> None:
    card = Card()
    for time_us in (100, 110, 120):
        card.pay_at(time_us, 10, keep=10)
    assert card.times_us == [110, 120]  # 100 = 120 - 2 * 10 is out


def test_a_payment_one_window_late_is_counted_exactly() -> None:
    card = Card()
    for time_us in (101, 109, 120):
        card.pay_at(time_us, 10, keep=10)
    assert card.pay_at(110, 10, keep=10) == 3


def test_a_long_baseline_halves_and_keeps_its_mean() -> None:
    spend = Spend(count=MAX_BASELINE, total_minor=MAX_BASELINE * 500)
    spend.add(500)
    assert spend.count == (MAX_BASELINE + 1) // 2
    assert spend.ratio_of(500) == spend.count * 500 / spend.total_minor
    assert abs(spend.total_minor / spend.count - 500) < 0.001


def test_a_currency_too_many_displaces_the_one_least_recently_used() -> None:
    card = Card()
    for number in range(MAX_CURRENCIES):
        card.spend_in(f"C{number}").add(100)
    card.spend_in("C0").add(100)
    card.spend_in("NEW").add(100)
    assert len(card.spend) == MAX_CURRENCIES
    assert "C1" not in card.spend
    assert card.spend["C0"] == Spend(count=2, total_minor=200)


async def test_the_state_is_json_that_others_can_read() -> None:
    async with Harness(FraudProcessor(), group="shop") as h:
        await h.send(payment("a", 1_234), time="2026-01-01T00:00:00.5Z")
        stored = h.store.stored("sp:{shop:0}:s:fraud:card_1")
    assert stored is not None
    assert msgspec.json.decode(stored) == {
        "times_us": [round((START + 0.5) * SECOND)],
        "spend": {"EUR": {"count": 1, "total_minor": 1234}},
    }


async def test_a_card_that_rests_for_a_quarter_is_forgotten() -> None:
    async with Harness(FraudProcessor()) as h:
        await h.send(payment("a"))
        h.now += 90 * 86_400 - 1
        assert h.state("fraud", "card_1") is not None
        h.now += 1
        assert h.state("fraud", "card_1") is None


async def test_history_survives_a_new_worker() -> None:
    async with Harness(FraudProcessor(velocity_limit=2)) as h:
        await h.send(payment("a"), payment("b"), time=START)
        await h.restart()
        await h.send(payment("c"), time=START)
        assert [flag.payment_id for flag in h.emitted_as(PaymentFlagged)] == ["c"]
