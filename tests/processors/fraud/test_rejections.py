"""Payments and labels that cannot be used go to the dead letters and leave no trace."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor, Geo, PaymentAuthorized
from streamproc_fraud.events import PaymentAuthorizedV1

from .payments import (
    START,
    alerts,
    label,
    metrics,
    payment,
    processor,
    rule,
    rule_set,
    seen,
    watching,
)


@pytest.mark.parametrize(
    ("change", "time", "reason"),
    [
        ({"card_id": ""}, START, "no-card"),
        ({"terminal_id": ""}, START, "no-terminal"),
        ({"amount_minor": -1}, START, "amount-negative"),
        ({"amount_minor": -500}, START, "amount-negative"),
        ({"amount_minor": 10**12 + 1}, START, "amount-too-large"),
        ({"amount_minor": 10**400}, START, "amount-too-large"),
        ({"currency": "eur"}, START, "unknown-currency"),
        ({"currency": "XYZ"}, START, "unknown-currency"),
        ({"currency": "ÄÖÜ"}, START, "unknown-currency"),
        ({}, "1970-01-01T00:00:00Z", "time-behind"),
    ],
)
async def test_a_senseless_payment_is_rejected_and_changes_nothing(
    change: dict[str, object], time: float | str, reason: str
) -> None:
    async with Harness(FraudProcessor()) as h:
        await h.send(payment("good"), time=START)
        before = h.state("fraud", "card_1")
        counts = h.store.counts("sp:{test:0}:c:fraud:terminal|terminal_1").to_fields()  # type: ignore[union-attr]
        await h.send(msgspec.structs.replace(payment("bad"), **change), time=time)
        (letter,) = h.dead_letters
        assert (letter.reason, letter.event_id, letter.attempts) == (reason, "bad", 1)
        assert h.state("fraud", "card_1") == before
        assert h.state("fraud", "") is None
        after = h.store.counts("sp:{test:0}:c:fraud:terminal|terminal_1").to_fields()  # type: ignore[union-attr]
        assert after == counts
        assert h.emitted == []


async def test_a_payment_of_zero_is_judged_and_counted(tmp_path: Path) -> None:
    names = ("card_count_1d", "card_ratio_1d", "card_min_1d")
    async with Harness(watching(tmp_path, *names, model="scorecard")) as h:
        await h.send(payment("a", 0), payment("b", 0), payment("c", 500), time=START)
        # amount > 0 or a missing value: the first two have no mean to be compared with.
        assert seen(h, "card_count_1d") == {"a": 1, "b": 2, "c": 3}
        assert seen(h, "card_ratio_1d") == {"a": None, "b": None, "c": None}
        assert seen(h, "card_min_1d") == {"a": 0, "b": 0, "c": 0}
        assert h.dead_letters == []


async def test_the_largest_amount_and_the_oldest_time_are_accepted() -> None:
    async with Harness(FraudProcessor(constants={"amount_limit": 1e12})) as h:
        await h.send(payment("large", 10**12), time="2006-01-02T00:00:00Z")
        assert h.dead_letters == []


async def test_a_payment_from_more_than_an_hour_ahead_is_rejected() -> None:
    async with Harness(FraudProcessor()) as h:
        inside = h.record(payment("an-hour"), time=START + 3_600)
        outside = h.record(payment("more"), time=START + 3_601)
        h.now = START
        await h.process(*[msgspec.structs.replace(r, approximate_arrival_timestamp=START)
                          for r in (inside, outside)])  # fmt: skip
        assert [(d.event_id, d.reason) for d in h.dead_letters] == [("more", "time-ahead")]


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01T00:00:00", ""])
async def test_a_time_that_is_none_is_rejected_without_retries(time: str) -> None:
    async with Harness(FraudProcessor()) as h:
        record = h.record(payment("a"), time=START)
        data = record.data.replace(b"2026-01-01T00:00:00+00:00", time.encode())
        assert data != record.data
        await h.send_raw(data)
        assert [(d.reason, d.attempts) for d in h.dead_letters] == [("bad-time", 1)]


async def test_a_payment_says_itself_when_it_was_or_its_envelope_or_its_arrival(
    tmp_path: Path,
) -> None:
    async with Harness(watching(tmp_path, "time")) as h:
        own = payment("own", authorized_at="2026-01-01T00:00:05Z")
        await h.send(msgspec.convert(msgspec.to_builtins(own), PaymentAuthorized), time=START + 9)
        await h.send(payment("envelope"), time=START + 9)
        h.now = START + 70
        await h.send(payment("arrival"))
        card = h.state("fraud", "card_1")
    times = memoryview(card.payments.times).cast("q").tolist()
    assert times == [round((START + s) * 1e6) for s in (5, 9, 70)]


async def test_a_payment_sent_again_counts_once() -> None:
    async with Harness(FraudProcessor(constants={"velocity_limit": 1})) as h:
        await h.send(payment("a"), payment("a"), time=START)
        await h.send(payment("a"), time=START)
        assert h.emitted == []
        assert h.statistics.duplicates == 2


@pytest.mark.parametrize("geo", [None, Geo(91, 0), Geo(0, 181), Geo(-1e300, 0)])
async def test_without_a_place_on_earth_travel_is_missing_and_the_payment_is_judged(
    tmp_path: Path, geo: Geo | None
) -> None:
    fraud = watching(tmp_path, "travel_kmh")
    async with Harness(fraud) as h:
        await h.send(payment("here", geo=Geo(52.4, 4.9)), time=START)
        await h.send(payment("odd", geo=geo), time=START + 60)
        assert seen(h, "travel_kmh") == {"here": None, "odd": None}
    assert metrics(fraud, "ignored_places_total") == {"": geo is not None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"card_id": ""}, "no-card"), ({"terminal_id": ""}, "no-terminal")],
)
async def test_a_label_without_its_keys_is_rejected(change: dict[str, str], reason: str) -> None:
    async with Harness(FraudProcessor()) as h:
        await h.send(msgspec.structs.replace(label("p", START, START), **change), time=START)
        assert [letter.reason for letter in h.dead_letters] == [reason]


async def test_a_label_from_another_century_is_rejected() -> None:
    async with Harness(FraudProcessor()) as h:
        await h.send(label("p", START - 100 * 365 * 86_400, START), time=START)
        await h.send(label("q", START + 30 * 86_400, START), time=START)
        assert [letter.reason for letter in h.dead_letters] == ["time-behind", "time-ahead"]


async def test_a_label_without_an_offset_is_rejected() -> None:
    async with Harness(FraudProcessor()) as h:
        record = h.record(label("p", START, START), time=START)
        data = record.data.replace(
            b'"labelled_at":"2026-01-01T00:00:00Z"', b'"labelled_at":"2026-01-01T00:00:00"'
        )
        assert data != record.data
        await h.send_raw(data)
        assert [letter.reason for letter in h.dead_letters] == ["bad-time"]


async def test_version_1_of_a_payment_is_read_and_says_less(tmp_path: Path) -> None:
    fraud = processor(tmp_path, rule_set(rule("old", "is_missing(country)")))
    async with Harness(fraud) as h:
        record = h.record(payment("a"), time=START)
        data = record.data.replace(b"PaymentAuthorized.v2", b"com.example.PaymentAuthorized.v1")
        assert data != record.data
        await h.send_raw(data.replace(b'"country":null,', b""))
        await h.send(payment("b", country="NL"), time=START)
        assert [alert.payment_id for alert in alerts(h)] == ["a"]
        assert len(h.state("fraud", "card_1").payments) == 2


async def test_no_card_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    card = "4111111111111111"
    async with Harness(FraudProcessor(constants={"velocity_limit": 1})) as h:
        await h.send(payment("a", card=card), payment("b", card=card), payment("c", -1, card=card))
        await h.send_raw(f'{{"type":"PaymentAuthorized","data":{{"card_id":"{card}"}}}}'.encode())
        assert len(h.emitted) == 1
        assert len(h.dead_letters) == 2
    assert "fraud.judge" in caplog.text
    assert card not in caplog.text


def test_the_event_contract_is_the_documented_one() -> None:
    assert PaymentAuthorized.__event_type__ == "PaymentAuthorized"
    assert PaymentAuthorized.__event_version__ == 2
    assert PaymentAuthorized.__event_id__ == "payment_id"


def test_an_old_payment_says_the_same_in_the_new_version() -> None:
    old = PaymentAuthorizedV1(
        "p", "card", "customer", "terminal", 5, "EUR", "10.0.0.1", "device", Geo(1.0, 2.0), "POS"
    )
    new = old.upcast()
    assert msgspec.structs.asdict(new) == {
        **msgspec.structs.asdict(old), "country": None, "authorized_at": None
    }  # fmt: skip
