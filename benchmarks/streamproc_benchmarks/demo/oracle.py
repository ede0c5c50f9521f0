"""What must come out, computed from what was published; shares no code with the processors.

Plain and slow on purpose: JSON by the standard library, whole histories instead of windows, and
stock as sums over sets of events.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from streamproc_benchmarks.demo.workload import Record

__all__ = ["FRAUD_SETTINGS", "Expected", "Flag", "Level", "expect"]

FRAUD_SETTINGS: Final = {
    "amount_limit": 220,
    "velocity_limit": 5,
    "spend_ratio": 4,
    "spend_ratio_min_count": 4,
    "review_score": 2,  # no score reaches it: what the model thinks is not verified here
}
"""The constants of the rules in this run, which the workers are given too."""

_VELOCITY_WINDOW_US: Final = 60_000_000
_MINOR_UNITS: Final = 100  # of every currency in the shop

_ID_FIELDS: Final = {
    "PaymentAuthorized": "payment_id",
    "OrderPlaced": "orderId",
    "OrderCancelled": "cancellationId",
    "OrderShipped": "shipmentId",
    "StockReceived": "receiptId",
}
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Level(msgspec.Struct, frozen=True):
    """Units of one SKU at one location; `available` is below zero when it is oversold."""

    on_hand: int
    committed: int
    available: int


class Flag(msgspec.Struct, frozen=True):
    """What must be said of a payment that breaks rules."""

    reasons: tuple[str, ...]
    amount_minor: int
    payments_in_window: int
    earlier_payments: int


class Expected(msgspec.Struct, kw_only=True):
    """The outcome of a run.

    Attributes:
        counts: records by what becomes of them: event, duplicate, poison.
        levels: stock by ``sku|location``.
        spend: payments and their sum in minor units, by card and currency.
        flags: the fraud alerts, by payment id.
        dead_letters: payloads, and how often each is put aside.
        may_oversell: stocks for which a bad order of events can bring availability below zero;
            those that end there are among them. No other may send an alert.
    """

    counts: Counter[str]
    levels: dict[str, Level]
    spend: dict[str, dict[str, tuple[int, int]]]
    flags: dict[str, Flag]
    dead_letters: Counter[bytes]
    may_oversell: set[str]


def expect(opening: Iterable[Record], records: Iterable[Record]) -> Expected:
    """Return what `records`, published after `opening` was committed, must lead to.

    Records of one partition key are taken in the order given; across keys nothing depends on it.
    """
    counts: Counter[str] = Counter()
    dead: Counter[bytes] = Counter()
    facts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    opening = list(opening)
    for record in [*opening, *records]:
        counts[record.kind] += 1
        if record.kind == "poison":
            dead[record.data] += 1
            continue
        envelope = json.loads(record.data)
        identity = (envelope["type"], envelope["data"][_ID_FIELDS[envelope["type"]]])
        if identity not in seen:
            seen.add(identity)
            facts[envelope["type"]].append(envelope["data"] | {"time": envelope["time"]})
    payments = facts["PaymentAuthorized"]
    first = Counter[str]()
    for record in opening:
        data = json.loads(record.data)["data"]
        first[_stock_key(data)] += data["quantity"]
    return Expected(
        counts=counts,
        levels=_levels(facts),
        spend=_spend(payments),
        flags=_flags(payments),
        dead_letters=dead,
        may_oversell=_may_oversell(first, facts["OrderPlaced"]),
    )


def _levels(facts: dict[str, list[dict[str, Any]]]) -> dict[str, Level]:
    received: Counter[str] = Counter()
    for receipt in facts["StockReceived"]:
        received[_stock_key(receipt)] += receipt["quantity"]
    placed = _by_line(facts["OrderPlaced"])
    cancelled = _by_line(facts["OrderCancelled"])
    shipped = _by_line(facts["OrderShipped"])
    committed: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for line in {*placed, *cancelled, *shipped}:
        stock = line[0]
        committed[stock] += max(placed[line] - cancelled[line] - shipped[line], 0)
        gone[stock] += shipped[line]
    return {
        stock: Level(on_hand, committed[stock], on_hand - committed[stock])
        for stock in {*received, *committed}
        for on_hand in [received[stock] - gone[stock]]
    }


def _by_line(orders: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """Return quantities by (stock, order, line)."""
    quantities: Counter[tuple[str, str, str]] = Counter()
    for order in orders:
        for line in order["lines"]:
            quantities[_stock_key(line), order["orderId"], line["lineId"]] += line["quantity"]
    return quantities


def _may_oversell(opening: Counter[str], orders: list[dict[str, Any]]) -> set[str]:
    demand: Counter[str] = Counter()
    for (stock, _, _), quantity in _by_line(orders).items():
        demand[stock] += quantity
    return {stock for stock, quantity in demand.items() if quantity > opening[stock]}


def _spend(payments: list[dict[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
    spend: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for payment in payments:
        of_card = spend[payment["card_id"]]
        count, total = of_card.get(payment["currency"], (0, 0))
        of_card[payment["currency"]] = (count + 1, total + payment["amount_minor"])
    return dict(spend)


def _flags(payments: list[dict[str, Any]]) -> dict[str, Flag]:
    histories: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    flags = {}
    for payment in payments:
        history = histories[payment["card_id"]]
        time = _microseconds(payment["time"])
        history.append((time, payment["currency"], payment["amount_minor"]))
        flag = _judge(history)
        if flag.reasons:
            flags[payment["payment_id"]] = flag
    return flags


def _judge(history: list[tuple[int, str, int]]) -> Flag:
    """Judge the last payment of a card's history by the whole of it."""
    time, currency, amount = history[-1]
    earlier = [paid for _, unit, paid in history[:-1] if unit == currency]
    window_start = time - _VELOCITY_WINDOW_US
    in_window = sum(window_start < at <= time for at, _, _ in history)
    reasons = []
    if amount > FRAUD_SETTINGS["amount_limit"] * _MINOR_UNITS:
        reasons.append("amount-limit")
    if in_window > FRAUD_SETTINGS["velocity_limit"]:
        reasons.append("velocity")
    trusted = len(earlier) >= FRAUD_SETTINGS["spend_ratio_min_count"]
    if trusted and amount * len(earlier) > FRAUD_SETTINGS["spend_ratio"] * sum(earlier):
        reasons.append("spend-ratio")
    return Flag(tuple(reasons), amount, in_window, len(earlier))


def _stock_key(data: dict[str, Any]) -> str:
    return f"{data['sku']}|{data['locationId']}"


def _microseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - _UNIX_EPOCH) // timedelta(microseconds=1)
