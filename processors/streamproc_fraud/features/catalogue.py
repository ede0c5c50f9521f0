"""Every feature by name: what kind it is, and how it is read off a `Frame`.

How is a Python expression over the frame ``f`` and what `reading` has worked out before.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final

import msgspec

from streamproc_fraud.features.card import RETENTION_US
from streamproc_fraud.features.frame import ENTITIES
from streamproc_fraud.rules.syntax import Kind

__all__ = ["AMOUNTS", "CATALOGUE", "Catalogue", "Feature"]


class Feature(msgspec.Struct, frozen=True):
    """One feature.

    Attributes:
        kind: of its values.
        code: gives its value; an expression over the frame ``f`` and the names of `reading`.
        text: what it is, for people.
        entity: whose counters it needs, if any.
        tracked: which of them.
    """

    kind: Kind
    code: str
    text: str
    entity: str | None = None
    tracked: str = "count"


_UNITS: Final = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_WINDOWED: Final = re.compile(
    r"(?P<of>[a-z]+)_(?P<what>[a-z_]+)_(?P<number>[1-9]\d{0,5})(?P<unit>[smhd])"
)


class Catalogue:
    """All features: the plain ones, and those of a window, such as ``card_count_10m``."""

    def __init__(self) -> None:
        self._windowed: dict[str, Feature | None] = {}

    def get(self, name: str) -> Feature | None:
        """Return a feature, or None where there is none of that name."""
        plain = _PLAIN.get(name)
        if plain is not None:
            return plain
        if len(self._windowed) > 10_000:  # names come from rule sets
            self._windowed.clear()
        if name not in self._windowed:
            self._windowed[name] = _windowed(name)
        return self._windowed[name]

    def kind(self, name: str) -> Kind | None:
        """Return a feature's kind, or None where there is no such feature."""
        feature = self.get(name)
        return None if feature is None else feature.kind

    def near(self, name: str) -> list[str]:
        """Return features that a wrong name may have meant."""
        match = _WINDOWED.fullmatch(name)
        if match is None:
            return difflib.get_close_matches(name, [*_PLAIN, *_families("30d")], n=1)
        window = match["number"] + match["unit"]
        near = difflib.get_close_matches(name, _families(window), n=1)
        return [each for each in near if each != name] or ["card_count_30d"]

    def plain(self) -> dict[str, Feature]:
        """Return the features without a window, by name."""
        return dict(_PLAIN)

    def families(self) -> dict[str, str]:
        """Return what can be asked of a window, as ``card_count_<window>``, and what it is."""
        return {f"{of}_{what}_<window>": text for (of, what), (_, text) in _FAMILIES.items()}


def _windowed(name: str) -> Feature | None:
    match = _WINDOWED.fullmatch(name)
    if match is None or (match["of"], match["what"]) not in _FAMILIES:
        return None
    window_us = int(match["number"]) * _UNITS[match["unit"]]
    if window_us > RETENTION_US:
        return None
    of, what = match["of"], match["what"]
    code, text = _FAMILIES[of, what]
    tracked = {"cards": "cards", "sum": "amounts", "mean": "amounts", "min": "amounts",
               "max": "amounts"}.get(what, "count")  # fmt: skip
    return Feature("number", code.format(window_us), text, of if of in ENTITIES else None, tracked)


def _families(window: str) -> list[str]:
    return [f"{of}_{what}_{window}" for of, what in _FAMILIES]


def _text(attribute: str, text: str) -> Feature:
    return Feature("text", f"payment.{attribute}", text)


_HOUR: Final = "time_us // 3_600_000_000 % 24"
_WEEKDAY: Final = "(time_us // 86_400_000_000 + 3) % 7"  # the epoch was a Thursday

_PLAIN: Final = {
    "amount": Feature(
        "number", "amount_minor / minor_units", "the amount in whole units, 12.5 for 12.50"
    ),
    "amount_minor": Feature("number", "float(amount_minor)", "the amount in minor units"),
    "card": _text("card_id", "the card's token"),
    "card_frauds": Feature(
        "number",
        "f.card_frauds()",
        "the card's payments that are known to be frauds, of the last 256 labels",
    ),
    "card_seconds_late": Feature(
        "number", "(newest - time_us) / 1e6", "how far behind the card's newest payment this one is"
    ),
    "card_seconds_since_last": Feature(
        "number",
        "(time_us - times[end - 2]) / 1e6 if end > 1 else nan",
        "since the card's payment before; missing without one"
    ),
    "channel": _text("channel", "as the payment says"),
    "country": _text("country", "ISO 3166 alpha-2"),
    "currency": _text("currency", "ISO 4217"),
    "customer": _text("customer_id", "the customer's id"),
    "device": _text("device_id", "the device's id"),
    "hour": Feature("number", f"float({_HOUR})", "0 to 23, UTC"),
    "ip": _text("ip", "the address that the payment came from"),
    "is_night": Feature("flag", f"{_HOUR} <= 6", "from 00:00 to 06:59 UTC"),
    "is_weekend": Feature("flag", f"{_WEEKDAY} >= 5", "Saturday or Sunday, UTC"),
    "payment": _text("payment_id", "the payment's id"),
    "terminal": _text("terminal_id", "the terminal's id"),
    "time": Feature("number", "time_us / 1e6", "event time, seconds since the epoch"),
    "travel_km": Feature(
        "number", "f.travel[0]", "way from the card's neighbouring payment in time"
    ),
    "travel_kmh": Feature(
        "number", "f.travel[1]", "speed of that way; 0 below 50 km, missing without places"
    ),
    "weekday": Feature("number", f"float({_WEEKDAY})", "0 is Monday, UTC"),
}  # fmt: skip

# Of a window, whose width stands for {0}.
_CARD: Final[dict[str, tuple[str, str]]] = {
    "count": (
        "(f.merged_count(first_{0}, end) if is_merged else float(end - first_{0}))",
        "payments, this one included",
    ),
    "sum": (
        "total_{0} / minor_units",
        "their sum in whole units; of those in this payment's currency, as all amounts",
    ),
    "mean": ("total_{0} / minor_units / count_{0}", "their mean"),
    "min": ("f.extremes(first_{0}, end)[0] / minor_units", "the least of them"),
    "max": ("f.extremes(first_{0}, end)[1] / minor_units", "the greatest of them"),
    "prior_count": ("count_{0} - 1.0", "earlier payments in this currency"),
    "prior_mean": (
        "((total_{0} - amount_minor) / minor_units / (count_{0} - 1) if count_{0} > 1 else nan)",
        "the mean of the earlier ones; missing without any",
    ),
    "ratio": (
        "(amount_minor * (count_{0} - 1) / (total_{0} - amount_minor)"
        " if total_{0} != amount_minor else nan)",
        "this amount over the mean of the earlier ones; missing without any",
    ),
    "terminals": (
        "f.terminals(first_{0}, end)",
        "different terminals; missing where payments were merged",
    ),
}


def _sum(amounts: list[tuple[int, int]]) -> float:
    return sum([amount * times for amount, times in amounts])


def _mean(amounts: list[tuple[int, int]]) -> float:
    return _sum(amounts) / sum([times for _, times in amounts])


AMOUNTS: Final[dict[str, Callable[[list[tuple[int, int]]], float]]] = {
    "sum": _sum,
    "mean": _mean,
    "min": lambda amounts: min(amounts)[0],
    "max": lambda amounts: max(amounts)[0],
}
_AMOUNTS_TEXT: Final = {
    "sum": "the sum of those in this payment's currency",
    "mean": "their mean",
    "min": "the least of them",
    "max": "the greatest of them",
}


def _shared(of: str) -> dict[str, tuple[str, str]]:
    amounts = {
        what: (f'f.shared_amount("{of}", {{0}}, AMOUNTS["{what}"])', text)
        for what, text in _AMOUNTS_TEXT.items()
    }
    return {
        "count": (f'f.shared_count("{of}", {{0}})', "payments, this one included"),
        "cards": (f'f.shared_cards("{of}", {{0}})', "different cards"),
        **amounts,
    }


_DELAYED: Final[dict[str, tuple[str, str]]] = {
    "delayed_count": (
        "f.terminal_delayed({0})",
        "payments in the window that ends when labels are due, 7 days ago",
    ),
    "risk": (
        "risk_{0}",
        "the share of them that is known to be frauds; 0 without any",
    ),
}

_FAMILIES: Final = {
    **{("card", what): family for what, family in _CARD.items()},
    **{(of, what): family for of in ENTITIES for what, family in _shared(of).items()},
    **{("terminal", what): family for what, family in _DELAYED.items()},
}

CATALOGUE: Final = Catalogue()
