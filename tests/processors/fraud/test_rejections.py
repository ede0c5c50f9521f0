"""Payments that cannot be judged go to the dead letters and leave no trace."""

from __future__ import annotations

import logging

import msgspec
import pytest

from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor, PaymentAuthorized

from .payments import START, payment


@pytest.mark.parametrize(
    ("change", "time", "reason"),
    [
        ({"card_id": ""}, START, "no-card"),
        ({"amount_minor": 0}, START, "amount-not-positive"),
        ({"amount_minor": -500}, START, "amount-not-positive"),
        ({"amount_minor": 10**12 + 1}, START, "amount-too-large"),
        ({"amount_minor": 10**400}, START, "amount-too-large"),
        ({"currency": "eur"}, START, "bad-currency"),
        ({"currency": "EURO"}, START, "bad-currency"),
        ({"currency": "ÄÖÜ"}, START, "bad-currency"),
        ({"currency": "12E"}, START, "bad-currency"),
        ({}, "1970-01-01T00:00:00Z", "time-behind"),
    ],
)
async def test_a_senseless_payment_is_rejected_and_changes_nothing(
    change: dict[str, object], time: float | str, reason: str
) -> None:
    good = payment("good")
    async with Harness(FraudProcessor(velocity_limit=2)) as h:
        await h.send(good, time=START)
        before = h.state("fraud", "card_1")
        await h.send(msgspec.structs.replace(payment("bad"), **change), time=time)
        (letter,) = h.dead_letters
        assert (letter.reason, letter.event_id, letter.attempts) == (reason, "bad", 1)
        assert h.state("fraud", "card_1") == before
        assert h.state("fraud", "") is None
        assert h.emitted == []


async def test_the_largest_amount_and_the_oldest_time_are_accepted() -> None:
    async with Harness(FraudProcessor(amount_limit_minor=10**12)) as h:
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


async def test_a_payment_without_time_is_judged_at_its_arrival() -> None:
    async with Harness(FraudProcessor()) as h:
        h.now = START + 7
        await h.send(payment("a"))
        assert h.state("fraud", "card_1").times_us == [round((START + 7) * 1e6)]


async def test_a_payment_sent_again_counts_once() -> None:
    async with Harness(FraudProcessor(velocity_limit=1)) as h:
        await h.send(payment("a"), payment("a"), time=START)
        await h.send(payment("a"), time=START)
        assert h.emitted == []
        assert h.statistics.duplicates == 2


async def test_no_card_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    card = "4111111111111111"
    async with Harness(FraudProcessor(velocity_limit=1)) as h:
        await h.send(payment("a", card=card), payment("b", card=card), payment("c", -1, card=card))
        await h.send_raw(f'{{"type":"PaymentAuthorized","data":{{"card_id":"{card}"}}}}'.encode())
        assert len(h.emitted) == 1
        assert len(h.dead_letters) == 2
    assert "fraud.judge" in caplog.text
    assert card not in caplog.text


def test_the_event_contract_is_the_documented_one() -> None:
    assert PaymentAuthorized.__event_type__ == "PaymentAuthorized"
    assert PaymentAuthorized.__event_version__ == 1
    assert PaymentAuthorized.__event_id__ == "payment_id"
