"""What cards share: terminals' risk by labels that come late or are taken back, and counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc import ConfigError
from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor

from .payments import DAY, START, label, payment, processor, rule, rule_set, seen, watching

RISKS = ("terminal_risk_7d", "terminal_delayed_count_7d")


async def pay(h: Harness, name: str, day: float, card: str = "card_1") -> None:
    await h.send(payment(name, card=card), time=START + day * DAY)


async def test_a_fraud_weighs_on_its_terminal_when_its_label_is_due(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, *RISKS)) as h:
        await pay(h, "bad", 0)
        await pay(h, "good", 0.5, "card_2")
        await h.send(label("bad", START, START + 7 * DAY), time=START + 7 * DAY)
        for name, day in (("early", 6.9), ("due", 7.0), ("half", 8), ("gone", 14.1)):
            await pay(h, name, day, "card_3")
    assert seen(h, "terminal_risk_7d") == {
        "bad": 0, "good": 0, "early": 0, "due": 1.0, "half": 0.5, "gone": 0,
    }  # fmt: skip
    assert seen(h, "terminal_delayed_count_7d")["half"] == 2


async def test_a_label_that_is_36_hours_late_changes_later_scores_only(tmp_path: Path) -> None:
    async def run(labelled_day: float) -> dict[str, float]:
        async with Harness(watching(tmp_path, *RISKS, model="scorecard")) as h:
            await pay(h, "bad", 0)
            told = False
            for number in range(40):
                day = 6 + number / 4
                if not told and day >= labelled_day:
                    await h.send(label("bad", START, START + labelled_day * DAY), time=START)
                    told = True
                await pay(h, f"p{number}", day, f"card_{number % 5 + 2}")
            return seen(h, "terminal_risk_7d")

    in_time = await run(7)
    late = await run(8.5)
    changed = {name for name in late if late[name] != in_time[name]}
    # From 7 days on until the label came: payments at 7, 7.25, ... 8.25.
    assert changed == {f"p{number}" for number in range(4, 10)}
    assert all(late[name] == 0 for name in changed)


async def test_a_retraction_restores_the_risk(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, *RISKS)) as h:
        for number in range(3):
            await pay(h, f"old{number}", number / 10)
        await h.send(label("old0", START, START + 7 * DAY), time=START + 7 * DAY)
        await pay(h, "before", 8)
        await h.send(label("old1", START + DAY / 10, START + 8 * DAY), time=START + 8 * DAY)
        await pay(h, "during", 8.1)
        taken_back = label("old1", START + DAY / 10, START + 9 * DAY, retracted=True)
        await h.send(taken_back, time=START + 9 * DAY)
        await pay(h, "after", 9.5)
    risk = seen(h, "terminal_risk_7d")
    assert risk["before"] == pytest.approx(1 / 3)
    assert risk["during"] == pytest.approx(2 / 3)
    assert risk["after"] == pytest.approx(risk["before"], abs=1e-9)


async def test_a_label_before_its_payment_is_kept(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, *RISKS)) as h:
        await h.send(label("bad", START, START + DAY), time=START + DAY)
        await pay(h, "unknown", 7.5, "card_2")  # the payment has not come: no payments, no risk
        await pay(h, "bad", 0)
        await pay(h, "known", 7.6, "card_2")
    assert seen(h, "terminal_risk_7d") == {"unknown": 0, "bad": 0, "known": 1.0}


async def test_a_label_for_a_payment_that_never_comes_does_no_harm(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, *RISKS)) as h:
        for number in range(3):
            await h.send(label(f"ghost{number}", START, START + 7 * DAY), time=START)
        await pay(h, "real", 0.1)
        await pay(h, "later", 7.5)
        assert h.dead_letters == []
    assert seen(h, "terminal_risk_7d")["later"] == 1.0  # never above 1


async def test_of_the_labels_of_a_payment_the_latest_word_holds_in_any_order(
    tmp_path: Path,
) -> None:
    first = label("bad", START, START + 7 * DAY)
    again = label("bad", START, START + 7.1 * DAY)
    taken_back = label("bad", START, START + 7.2 * DAY, retracted=True)
    for order, expected in [
        ([first, again], 1.0),  # two investigators, one fraud
        ([first, taken_back], 0.0),
        ([taken_back, first], 0.0),  # what is older does not come back
        ([first, taken_back, again], 0.0),
        ([taken_back], 0.0),
    ]:
        async with Harness(watching(tmp_path, *RISKS)) as h:
            await pay(h, "bad", 0)
            for number, each in enumerate(order):
                await h.send(each, id=f"label{number}")
            await pay(h, "later", 8)
        assert seen(h, "terminal_risk_7d")["later"] == expected, order


async def test_a_cards_known_frauds_are_a_feature(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_frauds")) as h:
        await pay(h, "bad", 0)
        await h.send(label("bad", START, START + 7 * DAY), time=START + 7 * DAY)
        await pay(h, "next", 8)
        await h.send(label("bad", START, START + 9 * DAY, retracted=True), time=START + 9 * DAY)
        await pay(h, "last", 10)
    assert list(seen(h, "card_frauds").values()) == [0, 1, 0]


async def test_labels_of_a_card_are_bounded(tmp_path: Path) -> None:
    async with Harness(watching(tmp_path, "card_frauds")) as h:
        labels = [label(f"p{n}", START + n, START + 7 * DAY) for n in range(400)]
        await h.send(*labels, time=START + 7 * DAY)
        labels_held = h.state("fraud", "card_1").labels
    assert len(labels_held) == 256
    assert "p399" in labels_held


SHARED = ["customer_count_1h", "device_cards_1h", "ip_cards_1h", "ip_sum_1h", "ip_mean_1h",
          "ip_min_1h", "ip_max_1h"]  # fmt: skip
TRACK = {"customer": ["count"], "device": ["cards"], "ip": ["cards", "amounts"]}


@pytest.mark.parametrize("precision", ["exact", "bucketed"])
async def test_customers_devices_and_addresses_are_counted_over_their_cards(
    tmp_path: Path, precision: str
) -> None:
    async with Harness(watching(tmp_path, *SHARED, track=TRACK, precision=precision)) as h:
        for number, (amount, card, hour) in enumerate(
            [(100, "a", 0), (500, "b", 0.1), (200, "a", 0.2), (300, "c", 2.5)]
        ):
            made = payment(f"p{number}", amount, card=card, ip="203.0.113.7", device_id="d1")
            await h.send(made, time=START + hour * 3_600)
        await h.send(payment("bare", card="z"), time=START + 2.6 * 3_600)
    assert list(seen(h, "customer_count_1h").values()) == [1, 2, 3, 1, 2]
    assert list(seen(h, "device_cards_1h").values()) == [1, 2, 2, 1, None]
    assert list(seen(h, "ip_cards_1h").values()) == [1, 2, 2, 1, None]
    assert list(seen(h, "ip_sum_1h").values()) == [1, 6, 8, 3, None]
    assert list(seen(h, "ip_mean_1h").values()) == pytest.approx([1, 3, 8 / 3, 3, None])
    assert list(seen(h, "ip_min_1h").values()) == [1, 1, 1, 3, None]
    assert list(seen(h, "ip_max_1h").values()) == [1, 5, 5, 3, None]


async def test_what_no_window_reaches_leaves_the_counters(tmp_path: Path) -> None:
    fraud = watching(tmp_path, "terminal_count_1d", "ip_cards_1d",
                     track={"terminal": ["count"], "ip": ["cards"]})  # fmt: skip
    async with Harness(fraud) as h:
        for day in range(120):
            made = payment(f"p{day}", card=f"c{day}", ip="203.0.113.7")
            await h.send(made, time=START + day * DAY)
        for key in ("terminal|terminal_1", "ip|203.0.113.7"):
            counts = h.store.counts(f"sp:{{test:0}}:c:fraud:{key}")
            assert counts is not None
            held = [field for field in counts.to_fields() if field.startswith("b:")]
            assert 38 <= len(held) <= 48, key


async def test_with_nothing_tracked_no_counter_is_kept(tmp_path: Path) -> None:
    text = rule_set(rule("r", "amount > 1"))
    async with Harness(processor(tmp_path, text, track={})) as h:
        await pay(h, "a", 0)
        await h.send(label("a", START, START + DAY), time=START + DAY)
        assert h.store.counts("sp:{test:0}:c:fraud:terminal|terminal_1") is None
        assert h.dead_letters == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"track": {"shop": ["count"]}}, "track.shop: there are customer, device, ip, terminal"),
        ({"track": {"ip": ["sum"]}}, "'sum' is none of count, amounts, cards"),
        ({"label_delay_days": -1}, "from 0 to 90"),
        ({"precision": "fuzzy"}, 'write "exact" or "bucketed"'),
    ],
)
def test_settings_without_sense_are_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        FraudProcessor(**given)  # type: ignore[arg-type]
