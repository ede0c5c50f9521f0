"""A card's windows against a look through all its payments, and their size and error in buckets."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.testing import Harness
from streamproc_fraud.features.card import BUCKETED_ROWS, EXACT_ROWS, Card, Payments
from streamproc_fraud.features.catalogue import CATALOGUE
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.features.shared import MemoryCounters
from streamproc_fraud.world.simulator import Transactions

from .payments import DAY, START, payment, seen, watching

US = 1_000_000
FEATURES = ["card_count_1h", "card_sum_1h", "card_mean_1h", "card_min_1h", "card_max_1h",
            "card_terminals_1h", "card_prior_count_1h", "card_prior_mean_1h", "card_ratio_1h",
            "card_count_30d", "card_seconds_since_last", "card_seconds_late"]  # fmt: skip

Paid = tuple[int, int, str, str]
"""Second, minor units, currency, terminal."""


def computed(paid: list[Paid], engine: FeatureEngine) -> list[list[float]]:
    read = engine.plan(FEATURES, "test")
    card, found = Card(), []
    for number, (second, amount, currency, terminal) in enumerate(paid):
        made = payment(f"p{number}", amount, currency=currency, terminal=terminal)
        frame = engine.take(made, (round(START) + second) * US, card, {})
        found.append(read(frame))
        # As between two batches of two workers.
        card = msgspec.json.decode(msgspec.json.encode(card), type=Card)
    return found


def looked_up(paid: list[Paid]) -> list[list[float]]:
    found = []
    for number, (second, amount, currency, _) in enumerate(paid):
        before = paid[: number + 1]
        hour = [p for p in before if second - 3_600 < p[0] <= second]
        own = [p[1] / 100 for p in hour if p[2] == currency]
        earlier = list(own)
        earlier.remove(amount / 100)
        # In the order of time, payments with one time in the order in which they came.
        previous = max((p[0] for p in before[:-1] if p[0] <= second), default=None)
        found.append(
            [
                len(hour), sum(own), sum(own) / len(own), min(own), max(own),
                len({p[3] for p in hour}), len(earlier),
                sum(earlier) / len(earlier) if earlier else math.nan,
                amount / 100 * len(earlier) / sum(earlier) if earlier else math.nan,
                sum(p[0] <= second for p in before),
                math.nan if previous is None else second - previous,
                max(p[0] for p in before) - second,
            ]
        )  # fmt: skip
    return found


paid = st.tuples(
    st.integers(0, 9_000), st.integers(1, 500), st.sampled_from(["EUR", "USD"]),
    st.sampled_from(["t1", "t2", "t3"]),
)  # fmt: skip


@given(paid=st.lists(paid, min_size=1, max_size=25))
@settings(max_examples=150, deadline=None)
def test_exact_windows_are_those_of_a_look_through_all_payments_in_any_order(
    paid: list[Paid],
) -> None:
    engine = FeatureEngine(track={})
    for got, expected in zip(computed(paid, engine), looked_up(paid), strict=True):
        assert got == pytest.approx(expected, rel=1e-12, nan_ok=True)


async def test_a_window_excludes_its_beginning_and_includes_its_end(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_count_1m")) as h:
        for name, at in [
            ("first", "2026-01-01T00:00:00.000001Z"),
            ("window-later", "2026-01-01T00:01:00.000001Z"),
            ("a-microsecond-less", "2026-01-01T00:02:00.000000Z"),
            ("same-moment", "2026-01-01T00:02:00.000000Z"),
        ]:
            await h.send(payment(name), time=at)
        assert list(seen(h, "card_count_1m").values()) == [1, 1, 2, 3]


async def test_amounts_are_in_whole_units_and_of_one_currency(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_sum_1d", "card_count_1d")) as h:
        for name, amount, currency in [
            ("euro", 1_250, "EUR"),
            ("yen", 1_250, "JPY"),
            ("dinar", 1_250, "KWD"),
            ("euros", 250, "EUR"),
        ]:
            await h.send(payment(name, amount, currency=currency), time=START)
        assert list(seen(h, "card_sum_1d").values()) == [12.5, 1250, 1.25, 15]
        assert list(seen(h, "card_count_1d").values()) == [1, 2, 3, 4]


async def test_a_very_late_payment_is_judged_at_its_own_time(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_count_1d", "card_seconds_late")) as h:
        for name, day in (("now", 40), ("next", 40.5), ("late", 1), ("later", 1.5), ("on", 41)):
            await h.send(payment(name), time=START + day * DAY)
        assert list(seen(h, "card_count_1d").values()) == [1, 2, 1, 2, 2]
        assert seen(h, "card_seconds_late")["late"] == 39.5 * DAY
        assert h.dead_letters == []


async def test_a_clock_that_runs_ahead_empties_no_window(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_count_1m")) as h:
        ahead = h.record(payment("ahead"), time=START + 3_000)
        h.now = START  # what `record` moved on: the clock of the producer is wrong, not ours
        for number in range(3):
            await h.send(payment(f"before{number}"), time=START + number)
        await h.process(ahead)
        await h.send(payment("after"), time=START + 10)
        assert list(seen(h, "card_count_1m").values()) == [1, 2, 3, 1, 4]


def test_what_no_window_reaches_is_forgotten() -> None:
    card, engine = Card(), FeatureEngine(track={})
    for day in range(200):
        engine.take(payment(f"p{day}"), round(START + day * DAY) * US, card, {})
    assert 31 <= len(card.payments) <= 45
    assert len(msgspec.json.encode(card)) < 45 * 21 * 4 / 3 + 200


def busy(count: int, step_s: int, engine: FeatureEngine) -> tuple[Card, int]:
    """Return a card after `count` payments `step_s` apart, and its largest size in JSON."""
    card, largest = Card(), 0
    for number in range(count):
        time_us = (round(START) + number * step_s) * US
        engine.take(payment(f"p{number}", 100 + number % 7), time_us, card, {})
        if number % 251 == 0:
            largest = max(largest, len(msgspec.json.encode(card)))
    return card, largest


@pytest.mark.parametrize(
    ("precision", "rows"), [("exact", EXACT_ROWS), ("bucketed", BUCKETED_ROWS)]
)
def test_a_cards_state_is_bounded_whatever_it_does(precision: str, rows: int) -> None:
    card, largest = busy(30_000, 120, FeatureEngine(precision, {}))  # type: ignore[arg-type]
    assert len(card.payments) <= rows
    # Eight columns of 41 bytes a row, in base64, and what is around them.
    assert largest <= rows * 41 * 4 / 3 + 1_000


def test_merging_keeps_every_payment_of_the_month() -> None:
    card, _ = busy(20_000, 120, FeatureEngine("bucketed", {}))  # 27.8 days
    engine = FeatureEngine("bucketed", {})
    frame = engine.take(payment("last", 50), (round(START) + 20_000 * 120) * US, card, {})
    names = ["card_count_30d", "card_prior_count_30d", "card_min_30d", "card_max_30d",
             "card_sum_30d", "card_terminals_1h", "card_terminals_30d"]  # fmt: skip
    found = engine.plan(names, "test")(frame)
    total = sum(100 + n % 7 for n in range(20_000)) + 50
    # The newest are held one by one.
    assert found[:6] == [20_001, 20_000, 0.5, 1.06, total / 100, 1]
    assert math.isnan(found[6])


def test_a_late_payment_that_is_merged_at_once_is_in_its_own_windows() -> None:
    names = ["card_count_1m", "card_mean_1m", "card_min_1m", "card_max_1m", "card_terminals_1m",
             "card_prior_count_1m", "card_ratio_1m"]  # fmt: skip
    engine, card, number = FeatureEngine("bucketed", {}), Card(), 0
    while len(card.payments) < BUCKETED_ROWS:
        time_us = (round(START) + number * 60) * US
        engine.take(payment(f"p{number}", 100), time_us, card, {})
        number += 1
    # Halfway between two others, five hours back: its bucket stands at a later time.
    frame = engine.take(payment("late", 70), time_us - (5 * 3_600 + 30) * US, card, {})
    assert len(card.payments) < BUCKETED_ROWS
    found = engine.plan(names, "test")(frame)
    assert found[:6] == [1, 0.7, 0.7, 0.7, 1, 0]
    assert math.isnan(found[6])


def test_currencies_stay_apart_when_payments_are_merged() -> None:
    engine = FeatureEngine("bucketed", {})
    card = Card()
    for number in range(3_000):
        made = payment(f"p{number}", 100, currency="USD" if number % 3 else "EUR")
        engine.take(made, (round(START) + 60 * number) * US, card, {})
    last = engine.take(payment("x", 100), (round(START) + 60 * 3_000) * US, card, {})
    found = engine.plan(["card_prior_count_30d", "card_sum_30d", "card_count_30d"], "test")(last)
    assert found == [1_000, 1_001, 3_001]


@given(st.lists(st.integers(0, 40 * DAY), min_size=70, max_size=300))
@settings(max_examples=20, deadline=None)
def test_a_window_over_merged_payments_counts_its_oldest_bucket_whole(seconds: list[int]) -> None:
    """Whatever was merged, a count lies between that of the window and that of a bucket more."""
    limit, history = 66, Payments()
    now = 40 * DAY
    for second in sorted(seconds):
        history.add((round(START) + second) * US, 100, "EUR", b"0000", limit)
    times = memoryview(history.times).cast("q").tolist()
    counts = memoryview(history.counts).cast("I").tolist() if history.counts else [1] * len(times)
    for window, width in ((DAY, 900), (7 * DAY, 3_600), (30 * DAY, 6 * 3_600)):
        first = (round(START) + now - window) * US
        held = sum(n for time, n in zip(times, counts, strict=True) if time > first)
        exact = sum(second > now - window for second in seconds)
        # Buckets of the next tier may reach into the window where merging has not come by since.
        loose = sum(second > now - window - max(width, 6 * 3_600) for second in seconds)
        assert exact <= held <= loose


def test_features_have_their_kinds_and_words() -> None:
    assert CATALOGUE.kind("card_count_10m") == "number"
    assert CATALOGUE.kind("card_count_31d") is None
    assert CATALOGUE.kind("card_count_0d") is None
    assert CATALOGUE.near("card_cuont_1h") == ["card_count_1h"]
    assert CATALOGUE.near("amuont") == ["amount"]
    assert all(feature.text for feature in CATALOGUE.plain().values())
    assert "terminal_risk_<window>" in CATALOGUE.families()


def test_a_day_in_buckets_errs_by_less_than_a_hundredth(small_world: Transactions) -> None:
    """Of what cards share, and of a card whose payments are merged all the time."""
    exact, bucketed = FeatureEngine("exact"), FeatureEngine("bucketed")
    count = bucketed.plan(["card_count_1d"], "test")
    first, second = MemoryCounters(), MemoryCounters()
    one, other = Card(), Card()
    total = error = card_error = 0.0
    for number, t in enumerate(small_world.t[:8_000].tolist()):
        key = ("terminal", "terminal_1")
        time_us = (round(START) + t) * US
        made = payment(f"p{number}")
        frame = exact.take(made, time_us, one, {key: first})
        expected = frame.shared_count("terminal", DAY * US)
        frame = bucketed.take(made, time_us, other, {key: second})
        error += abs(frame.shared_count("terminal", DAY * US) - expected)
        card_error += abs(count(frame)[0] - expected)
        total += expected
    assert len(other.payments) < len(one.payments)
    assert 0 < error / total <= 0.01
    assert 0 < card_error / total <= 0.01
