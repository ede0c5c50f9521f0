"""Verification: sound results pass, and every kind of damage is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec import structs
from msgspec.structs import replace

from streamproc_benchmarks.demo.observe import Observed, OutboxEntry
from streamproc_benchmarks.demo.oracle import Expected, Level, expect
from streamproc_benchmarks.demo.verify import Check, Tally, check_counters, verify
from streamproc_benchmarks.demo.workload import Record
from tests.demo.making import books, counted, payment, placed, receipt


@pytest.fixture
def expected() -> Expected:
    return expect(
        [receipt("r1", 1)],
        [
            payment("p1", 30_000),
            payment("p2", 50_000),
            placed("o1", 3),
            payment("p1", 30_000, kind="duplicate"),
            counted("n1", 1, minute=1),
            counted("n0", 1),
            Record(b"junk", "k", "poison"),
        ],
        books(on_hand=1, committed=3),
    )


def stock(on_hand: int, committed: int, available: int) -> Level:
    return Level(on_hand=on_hand, committed=committed, available=available)


def flagged(id: str, payment_id: str, amount: int, in_window: int) -> OutboxEntry:
    features = {"card_count_1m": in_window, "card_prior_count_30d": in_window - 1}
    data = {
        "payment_id": payment_id,
        "reasons": ["amount-limit"],
        "amount_minor": amount,
        "features": features,
    }
    return OutboxEntry(id, "PaymentFlagged", payment_id, data)


def oversold(id: str, cause: str = "o1", sku: str = "s") -> OutboxEntry:
    return OutboxEntry(id, "Oversold", cause, {"sku": sku, "locationId": "x"})


def mismatch(id: str, count: str, *, applied: bool = True) -> OutboxEntry:
    data = {"sku": "s", "locationId": "x", "countId": count, "applied": applied}
    return OutboxEntry(id, "CountMismatch", count, data)


def anomaly(kind: str, sku: str = "s") -> OutboxEntry:
    data = {"sku": sku, "locationId": "x", "kind": kind}
    return OutboxEntry(f"{kind} {sku}", "InventoryAnomaly", "o1", data)


def entry(id: str, version: int, before: Level, after: Level) -> OutboxEntry:
    levels = [list(structs.astuple(level)) for level in (before, after)]
    data = {"sku": "s", "locationId": "x", "version": version}
    return OutboxEntry(id, "LedgerEntry", id, data | {"before": levels[0], "after": levels[1]})


@pytest.fixture
def observed() -> Observed:
    return Observed(
        marks=6,
        levels={"s|x": stock(1, 3, -2)},
        spend={"c": {"EUR": (2, 80_000)}},
        outbox=[
            flagged("a", "p1", 30_000, 1),
            flagged("b", "p2", 50_000, 2),
            oversold("c"),
            mismatch("f", "n1"),
            mismatch("g", "n0", applied=False),
            anomaly("negative-on-hand"),
            entry("d", 1, stock(0, 0, 0), stock(1, 0, 1)),
            entry("e", 2, stock(1, 0, 1), stock(1, 3, -2)),
        ],
        dead_letters=Counter({b"junk": 1}),
    )


def with_stock(o: Observed, level: Level, sku: str = "s") -> Observed:
    """Return a result in which a stock is another, and the ledger says so too."""
    entries = [each for each in o.outbox if each.type != "LedgerEntry" or sku != "s"]
    made = entry("y", 1, stock(0, 0, 0), level)
    made.data["sku"] = sku
    return replace(o, levels=o.levels | {f"{sku}|x": level}, outbox=[*entries, made])


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: "; ".join(check.differences) for check in checks if not check.holds}


def test_a_sound_result_passes(expected: Expected, observed: Observed) -> None:
    assert failed(verify(expected, observed)) == {}


DAMAGES: dict[str, tuple[Callable[[Observed], Observed], str, str]] = {
    "an event is lost": (
        lambda o: replace(o, marks=5),
        "every event once",
        "5 event ids",
    ),
    "a payment counts twice": (
        lambda o: replace(o, spend={"c": {"EUR": (3, 110_000)}}),
        "card totals right",
        "card c is",
    ),
    "a card is lost": (
        lambda o: replace(o, spend={}),
        "card totals right",
        "card c is missing",
    ),
    "an order commits twice": (
        lambda o: with_stock(o, stock(1, 6, -5)),
        "stock right",
        "stock s|x is",
    ),
    "available contradicts its parts": (
        lambda o: with_stock(o, stock(1, 3, 0)),
        "stock right",
        "stock s|x is",
    ),
    "stock from nowhere": (
        lambda o: with_stock(o, stock(1, 0, 1), "t"),
        "stock right",
        "stock t|x should not be there",
    ),
    "a ledger entry is lost": (
        lambda o: replace(o, outbox=[each for each in o.outbox if each.id != "d"]),
        "ledger = stock",
        "ledger of s|x: entry 2 follows 0",
    ),
    "a ledger entry is there twice": (
        lambda o: replace(o, outbox=[*o.outbox, replace(o.outbox[-1], id="z")]),
        "ledger = stock",
        "ledger of s|x: entry 2 follows 2",
    ),
    "the ledger ends elsewhere": (
        lambda o: replace(o, outbox=o.outbox[:-1]),
        "ledger = stock",
        "the ledger's end for stock s|x is",
    ),
    "an alert is missing": (
        lambda o: replace(o, outbox=o.outbox[1:]),
        "each fraud alert once",
        "alert for payment p1 is missing",
    ),
    "an alert is there twice": (
        lambda o: replace(o, outbox=[*o.outbox, o.outbox[0]]),
        "each fraud alert once",
        "alert id a is there 2 times",
    ),
    "an alert is there twice under two ids": (
        lambda o: replace(o, outbox=[*o.outbox, flagged("z", "p1", 30_000, 1)]),
        "each fraud alert once",
        "alert for payment p1 is there 2 times",
    ),
    "an alert too many": (
        lambda o: replace(o, outbox=[*o.outbox, flagged("z", "p9", 30_000, 1)]),
        "each fraud alert once",
        "alert for payment p9 should not be there",
    ),
    "an alert saw the wrong history": (
        lambda o: replace(o, outbox=[o.outbox[0], flagged("b", "p2", 50_000, 1), *o.outbox[2:]]),
        "each fraud alert once",
        "alert for payment p2 is",
    ),
    "an oversold stock sent no alert": (
        lambda o: replace(o, outbox=o.outbox[:2] + o.outbox[3:]),
        "stock alerts right",
        "no oversold alert for stock s|x",
    ),
    "an oversold alert is there twice": (
        lambda o: replace(o, outbox=[*o.outbox, oversold("z")]),
        "stock alerts right",
        "s|x by o1 is there 2 times",
    ),
    "a stock with plenty sent an alert": (
        lambda o: replace(o, outbox=[*o.outbox, oversold("z", sku="t")]),
        "stock alerts right",
        "stock t|x, which cannot be oversold",
    ),
    "an anomaly is reported": (
        lambda o: replace(o, outbox=[*o.outbox, anomaly("over-closed")]),
        "stock alerts right",
        "over-closed",
    ),
    "goods leave that were always there": (
        lambda o: replace(o, outbox=[*o.outbox, anomaly("negative-on-hand", "t")]),
        "stock alerts right",
        "negative-on-hand",
    ),
    "a count tells twice": (
        lambda o: replace(o, outbox=[*o.outbox, mismatch("z", "n1")]),
        "stock alerts right",
        "count n1 is there 2 times",
    ),
    "a count tells that nobody made": (
        lambda o: replace(o, outbox=[*o.outbox, mismatch("z", "n2")]),
        "stock alerts right",
        "CountMismatch",
    ),
    "an outdated count is applied": (
        lambda o: replace(
            o, outbox=[each for each in o.outbox if each.id != "g"] + [mismatch("g", "n0")]
        ),
        "stock alerts right",
        "CountMismatch",
    ),
    "a count is not applied": (
        lambda o: replace(
            o,
            outbox=[each for each in o.outbox if each.id != "f"]
            + [mismatch("f", "n1", applied=False)],
        ),
        "stock alerts right",
        "CountMismatch",
    ),
    "a dead letter is lost": (
        lambda o: replace(o, dead_letters=Counter()),
        "dead letters = poison",
        "not in the dead letters (1x): b'junk'",
    ),
    "a dead letter is there twice": (
        lambda o: replace(o, dead_letters=Counter({b"junk": 2})),
        "dead letters = poison",
        "too many (1x): b'junk'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_by_one_check_in_words(
    damage: str, expected: Expected, observed: Observed
) -> None:
    harm, name, words = DAMAGES[damage]

    found = failed(verify(expected, harm(observed)))

    assert found.keys() == {name}
    assert words in found[name]


def tally(worker: str, event: int, duplicate: int, poison: int, unreported: int = 0) -> Tally:
    counted = Counter(event=event, duplicate=duplicate, poison=poison)
    return Tally(
        worker=worker,
        records=counted.total(),
        counted=counted,
        unreported=Counter(event=unreported),
    )


def test_counters_add_up_over_workers_and_what_a_dead_one_could_not_report() -> None:
    counts = Counter(event=10, duplicate=2, poison=1)

    check = check_counters(counts, [tally("a", 4, 1, 0, unreported=1), tally("b", 5, 1, 1)])

    assert check.holds
    assert check.detail == "6 by a + 7 by b = 13 records"


@pytest.mark.parametrize(
    ("survivor", "words"),
    [
        (tally("b", 6, 1, 1), "processed events: the workers count 11, published were 10"),
        (tally("b", 5, 2, 1), "duplicates: the workers count 3, published were 2"),
        (tally("b", 5, 1, 0), "dead letters: the workers count 0, published were 1"),
        (replace(tally("b", 5, 1, 1), records=8), "b counts 8 records, but 7 processed"),
    ],
)
def test_counters_that_do_not_add_up_are_reported(survivor: Tally, words: str) -> None:
    counts = Counter(event=10, duplicate=2, poison=1)

    check = check_counters(counts, [tally("a", 4, 1, 0, unreported=1), survivor])

    assert [words in difference for difference in check.differences] == [True]
