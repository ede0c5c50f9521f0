"""What windows cost a payment: twelve features of a card and a terminal, exact and bucketed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import msgspec

from streamproc.windows import Buckets, Decay, History
from streamproc_benchmarks.steps import Steps

__all__ = ["STEPS", "measure_windows"]

_DAY: Final = 86_400
_LENGTHS: Final = (_DAY, 7 * _DAY, 30 * _DAY)
_PAYMENTS: Final = 100_000
_CARDS: Final = 1_500
_TERMINALS: Final = 3_000

Payment = tuple[int, int, int, int, bool]
"""Time, card, terminal, amount, whether its terminal was found to cheat."""


class _Month(History):
    keep = 30 * _DAY


class _MonthAndWeek(History):
    keep = 37 * _DAY


class _Quarters(Buckets):
    width = 900
    keep = _DAY


class _Week(Decay):
    half_life = 7 * _DAY


def _payments(seed: int) -> list[Payment]:
    rng = random.Random(seed)
    made, now = [], 0
    for _ in range(_PAYMENTS):
        now += rng.randrange(1, 100)
        made.append(
            (now, rng.randrange(_CARDS), rng.randrange(_TERMINALS), rng.randrange(100, 20_000),
             rng.random() < 0.01)
        )  # fmt: skip
    return made


def _twelve_features(payments: list[Payment]) -> None:
    cards = [_Month() for _ in range(_CARDS)]
    terminals = [(_MonthAndWeek(), _MonthAndWeek()) for _ in range(_TERMINALS)]
    for now, card, terminal, amount, cheats in payments:
        spent = cards[card]
        spent.add(now, amount)
        day, week, month = spent.windows(_LENGTHS)
        _ = (day.count, day.mean, week.count, week.mean, month.count, month.mean)
        uses, frauds = terminals[terminal]
        uses.add(now)
        if cheats:
            frauds.add(now)
        counts = uses.counts(_LENGTHS, at=now, delay=7 * _DAY)
        bad = frauds.counts(_LENGTHS, at=now, delay=7 * _DAY)
        for known, cheated in zip(counts, bad, strict=True):
            _ = cheated / known if known else 0.0


def _exact(payments: list[Payment]) -> None:
    cards = [_Month() for _ in range(_CARDS)]
    for now, card, _, amount, _ in payments:
        spent = cards[card]
        spent.add(now, amount)
        _ = spent.window(_DAY).count


def _bucketed(payments: list[Payment]) -> None:
    cards = [_Quarters() for _ in range(_CARDS)]
    for now, card, _, amount, _ in payments:
        spent = cards[card]
        spent.add(now, amount)
        _ = spent.window(_DAY).count


def _decaying(payments: list[Payment]) -> None:
    cards = [_Week() for _ in range(_CARDS)]
    for now, card, _, amount, _ in payments:
        cards[card].add(now, amount)


def _stored(payments: list[Payment]) -> None:
    """Encode and decode a card of 60 payments, as a batch that is the first to touch it does."""
    spent = _Month()
    for now, _, _, amount, _ in payments[:60]:
        spent.add(1_767_225_600 + now, amount)
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Month).decode
    for _ in payments:
        decode(encode(spent))


STEPS: dict[str, Callable[[list[Payment]], None]] = {
    "12 exact features of card and terminal, 1/7/30 d": _twelve_features,
    "History: add, count of one window": _exact,
    "Buckets: add, count of 1 d in 15 min": _bucketed,
    "Decay: add": _decaying,
    "History of 60 events: to JSON and back": _stored,
}


def measure_windows(seed: int, rounds: int) -> Steps:
    """Measure every step once in every round, one after another."""
    payments = _payments(seed)
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(rounds):
        for name, step in STEPS.items():
            started = time.process_time()
            step(payments)
            times[name].append((time.process_time() - started) / _PAYMENTS * 1e6)
    return Steps(scenario="windows", each="payment", costs=times)
