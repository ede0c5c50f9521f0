"""What must come out, computed from what was published; shares no code with the processors.

Stock is what the simulated shop's own books say. Everything else is plain and slow on purpose: JSON
by the standard library, whole histories instead of windows, and sums over sets of events.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from streamproc_benchmarks.demo.workload import Record
from streamproc_inventory.simulation.shelf import Place, Shelf

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
_MINOR_UNITS: Final = 100  # of the world's one currency

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Facts = defaultdict[str, list[dict[str, Any]]]


class Level(msgspec.Struct, frozen=True):
    """Units of one SKU at one location, in the ledger's order.

    `available` is below zero when it is oversold.
    """

    on_hand: int = 0
    committed: int = 0
    reserved: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    available: int = 0


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
        may_oversell: stocks that a bad order of events can bring below zero; those that end there
            are among them. No other may send an alert that says so.
        stock_counts: whether each count of stock applies, by its id; it may tell of a difference.
    """

    counts: Counter[str]
    levels: dict[str, Level]
    spend: dict[str, dict[str, tuple[int, int]]]
    flags: dict[str, Flag]
    dead_letters: Counter[bytes]
    may_oversell: set[str]
    stock_counts: dict[str, bool]


def expect(
    opening: Iterable[Record], records: Iterable[Record], books: Mapping[Place, Shelf]
) -> Expected:
    """Return what `records`, published after `opening` was committed, must lead to.

    Records of one partition key are taken in the order given; across keys nothing depends on it.
    `books` are those of the shop that made them.
    """
    counts: Counter[str] = Counter()
    dead: Counter[bytes] = Counter()
    facts: _Facts = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    opening = list(opening)
    for record in [*opening, *records]:
        counts[record.kind] += 1
        if record.kind == "poison":
            dead[record.data] += 1
            continue
        envelope = json.loads(record.data)
        type, _, _ = envelope["type"].partition(".v")
        # An event's business id is its first field.
        identity = (type, next(iter(envelope["data"].values())))
        if identity not in seen:
            seen.add(identity)
            facts[type].append(envelope["data"] | {"time": envelope["time"]})
    payments = facts["PaymentAuthorized"]
    return Expected(
        counts=counts,
        levels=_levels(books, _reserved(facts)),
        spend=_spend(payments),
        flags=_flags(payments),
        dead_letters=dead,
        may_oversell=_may_oversell(_units_opened_with(opening), facts),
        stock_counts=_stock_counts(facts["StockCounted"]),
    )


def _levels(books: Mapping[Place, Shelf], reserved: Counter[str]) -> dict[str, Level]:
    levels = {}
    for (sku, location), shelf in books.items():
        held = reserved[f"{sku}|{location}"]
        levels[f"{sku}|{location}"] = Level(
            shelf.on_hand,
            shelf.committed,
            held,
            shelf.incoming,
            shelf.damaged,
            shelf.quality_control,
            shelf.safety_stock,
            # The books are those after all reservations have ended; here, some are still held.
            shelf.available - held,
        )
    return levels


def _reserved(facts: _Facts) -> Counter[str]:
    """Return the units of reservations that nobody has ended."""
    ends = [*facts["ReservationReleased"], *facts["ReservationCommitted"], *_lines(facts)]
    ended = {end.get("reservationId") for end in ends}
    reserved: Counter[str] = Counter()
    for reservation in facts["ReservationCreated"]:
        if reservation["reservationId"] not in ended:
            reserved.update(_units(reservation))
    return reserved


def _units_opened_with(opening: list[Record]) -> Counter[str]:
    units: Counter[str] = Counter()
    for record in opening:
        envelope = json.loads(record.data)
        if envelope["type"].startswith("StockReceived"):
            units.update(_units(envelope["data"]))
    return units


def _may_oversell(opening: Counter[str], facts: _Facts) -> set[str]:
    """Return the stocks of which more may be taken than the opening, or a count, has there."""
    taken: Counter[str] = Counter()
    for line in [*_lines(facts), *facts["ReservationCreated"]]:
        taken.update(_units(line))
    for back in facts["ReturnReceived"]:
        if back["disposition"] != "restock":  # on hand, so in a count, and not for sale
            taken.update(_units(back))
    for move in facts["StockTransferred"]:
        if move["phase"] == "out":
            taken[f"{move['sku']}|{move['fromLocationId']}"] += move["quantity"]
    for adjustment in facts["StockAdjusted"]:
        taken[_stock_key(adjustment)] += max(-adjustment["quantity"], 0)
    for policy in facts["StockPolicySet"]:
        taken[_stock_key(policy)] += policy["safetyStock"]
    least = dict(opening)
    for count in facts["StockCounted"]:
        stock = _stock_key(count)
        least[stock] = min(least.get(stock, 0), count["quantity"])
    return {stock for stock, units in taken.items() if units > least.get(stock, 0)}


def _stock_counts(counts: list[dict[str, Any]]) -> dict[str, bool]:
    """Return whether each count applies: unless one of a later moment was told before it."""
    latest: dict[str, int] = {}
    applies = {}
    for count in counts:
        stock, moment = _stock_key(count), _microseconds(count["asOf"])
        applies[count["countId"]] = moment >= latest.get(stock, moment)
        latest[stock] = max(moment, latest.get(stock, moment))
    return applies


def _lines(facts: _Facts) -> Iterator[dict[str, Any]]:
    for order in facts["OrderPlaced"]:
        yield from order["lines"]


def _units(of: dict[str, Any]) -> dict[str, int]:
    """Return the units by stock of something that has a quantity, and parts if it is of a kit."""
    parts = of.get("components") or [{"sku": of["sku"], "quantity": 1}]
    return {
        f"{part['sku']}|{of['locationId']}": part["quantity"] * of["quantity"] for part in parts
    }


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
