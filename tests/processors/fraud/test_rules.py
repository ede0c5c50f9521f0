"""Each rule at its border, and what a flag says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import ConfigError
from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor, PaymentFlagged

from .payments import START, oracle, payment


def quiet(**thresholds: float) -> FraudProcessor:
    """Return a processor none of whose rules fires, but for those given."""
    settings = {"amount_limit_minor": 10**12, "velocity_limit": 10**9, "spend_ratio": 1e9}
    return FraudProcessor(**{**settings, **thresholds})  # type: ignore[arg-type]


def flagged(h: Harness) -> list[str]:
    return [flag.payment_id for flag in h.emitted_as(PaymentFlagged)]


async def test_an_amount_at_the_limit_passes_and_one_cent_more_is_flagged() -> None:
    async with Harness(quiet(amount_limit_minor=22_000)) as h:
        await h.send(payment("at", 22_000), payment("over", 22_001))
        (flag,) = h.emitted_as(PaymentFlagged)
    assert flag.payment_id == "over"
    assert flag.card_id == "card_1"
    assert flag.reasons == ["amount-limit"]
    assert flag.facts.amount_minor == 22_001


async def test_payments_up_to_the_velocity_limit_pass() -> None:
    async with Harness(quiet(velocity_limit=3)) as h:
        for number in range(5):
            await h.send(payment(f"p{number}"), time=START + number)
        flags = h.emitted_as(PaymentFlagged)
    assert [(flag.payment_id, flag.facts.payments_in_window) for flag in flags] == [
        ("p3", 4),
        ("p4", 5),
    ]
    assert {tuple(flag.reasons) for flag in flags} == {("velocity",)}


async def test_the_window_excludes_its_beginning_and_includes_its_end() -> None:
    async with Harness(quiet(velocity_limit=1, velocity_window=60)) as h:
        await h.send(payment("first"), time="2026-01-01T00:00:00.000001Z")
        await h.send(payment("window-later"), time="2026-01-01T00:01:00.000001Z")
        assert flagged(h) == []
        await h.send(payment("a-microsecond-less"), time="2026-01-01T00:02:00.000000Z")
        assert flagged(h) == ["a-microsecond-less"]
        await h.send(payment("same-moment"), time="2026-01-01T00:02:00.000000Z")
        assert flagged(h)[1:] == ["same-moment"]


async def test_cards_do_not_count_for_each_other() -> None:
    async with Harness(quiet(velocity_limit=1)) as h:
        await h.send(payment("a", card="card_1"), payment("b", card="card_2"), time=START)
        assert flagged(h) == []


async def test_a_late_payment_is_judged_at_its_own_time() -> None:
    async with Harness(quiet(velocity_limit=2, velocity_window=10)) as h:
        for number, at in enumerate((100, 101, 102)):
            await h.send(payment(f"p{number}"), time=START + at)
        assert flagged(h) == ["p2"]
        await h.send(payment("late-and-alone"), time=START + 99)
        assert flagged(h) == ["p2"]
        await h.send(payment("late-and-third"), time=START + 100.5)
        assert flagged(h) == ["p2", "late-and-third"]


async def test_a_late_payment_counts_in_later_windows() -> None:
    async with Harness(quiet(velocity_limit=2, velocity_window=10)) as h:
        await h.send(payment("a"), time=START + 100)
        await h.send(payment("late"), time=START + 95)
        await h.send(payment("b"), time=START + 101)
        assert flagged(h) == ["b"]


async def test_a_clock_that_runs_ahead_blinds_the_rule_for_one_payment_only() -> None:
    async with Harness(quiet(velocity_limit=2, velocity_window=60)) as h:
        ahead = h.record(payment("ahead"), time=START + 3_000)
        h.now = START  # what `record` moved on: the clock of the producer is wrong, not ours
        for number in range(2):
            await h.send(payment(f"before{number}"), time=START + number)
        await h.process(ahead)
        for number in range(3):
            await h.send(payment(f"after{number}"), time=START + 10 + number)
        assert flagged(h) == ["after2"]


async def test_the_mean_is_of_earlier_payments_only() -> None:
    async with Harness(quiet(spend_ratio=3, spend_ratio_min_count=2)) as h:
        await h.send(payment("a", 1_000), payment("b", 2_000))
        await h.send(payment("at-three-times", 4_500))
        assert flagged(h) == []
        await h.send(payment("above", 7_501))
        (flag,) = h.emitted_as(PaymentFlagged)
    assert flag.reasons == ["spend-ratio"]
    assert flag.facts.earlier_payments == 3
    assert flag.facts.spend_ratio == 7_501 / 2_500


async def test_the_mean_is_not_trusted_before_enough_payments() -> None:
    async with Harness(quiet(spend_ratio=3, spend_ratio_min_count=3)) as h:
        await h.send(payment("a", 100), payment("b", 100))
        await h.send(payment("third", 10_000))
        assert flagged(h) == []


async def test_currencies_have_means_of_their_own() -> None:
    async with Harness(quiet(spend_ratio=3, spend_ratio_min_count=1)) as h:
        await h.send(payment("euro", 100), payment("yen", 10_000, currency="JPY"))
        assert flagged(h) == []
        await h.send(payment("euros", 10_000))
        assert flagged(h) == ["euros"]


async def test_one_flag_lists_all_reasons_in_fixed_order() -> None:
    rules = FraudProcessor(amount_limit_minor=5_000, velocity_limit=1, spend_ratio_min_count=1)
    async with Harness(rules) as h:
        await h.send(payment("a"), payment("b", 5_001))
        (flag,) = h.emitted_as(PaymentFlagged)
        (emitted,) = h.emitted
    assert flag.reasons == ["amount-limit", "velocity", "spend-ratio"]
    assert flag.rule_set == rules.rules.version
    assert (emitted.type, emitted.key, emitted.cause) == ("PaymentFlagged", "card_1", "b")


def test_the_rule_set_is_named_by_its_thresholds() -> None:
    assert FraudProcessor().rules.version == FraudProcessor().rules.version
    assert FraudProcessor().rules.version != FraudProcessor(spend_ratio=4.5).rules.version


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("amount_limit_minor", -1),
        ("velocity_limit", 0),
        ("velocity_window", 0),
        ("velocity_window", float("nan")),
        ("spend_ratio", -0.5),
        ("spend_ratio_min_count", 0),
    ],
)
def test_a_threshold_without_sense_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"processors\.fraud\.{setting} = .*at least"):
        FraudProcessor(**{setting: value})  # type: ignore[arg-type]


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 6),  # seconds on from the newest payment
            st.integers(0, 10),  # seconds late, at most a window
            st.sampled_from(["card_1", "card_2"]),
            st.integers(1, 400),
            st.sampled_from(["EUR", "USD"]),
        ),
        min_size=1,
        max_size=40,
    ),
    batch=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
async def test_flags_are_those_of_a_look_through_all_payments(
    steps: list[tuple[int, int, str, int, str]], batch: int
) -> None:
    processor = FraudProcessor(
        amount_limit_minor=300,
        velocity_limit=2,
        velocity_window=10,
        spend_ratio=1.5,
        spend_ratio_min_count=2,
    )
    now, made = START + 100, []
    for number, (on, late, card, amount, currency) in enumerate(steps):
        now += on
        paid = payment(f"p{number}", amount, card=card, currency=currency)
        made.append((now - late, paid))
    async with Harness(processor) as h:
        for first in range(0, len(made), batch):
            await h.process(*[h.record(p, time=t) for t, p in made[first : first + batch]])
        flags = {flag.payment_id: flag.reasons for flag in h.emitted_as(PaymentFlagged)}
    assert flags == oracle(processor.rules, made)
