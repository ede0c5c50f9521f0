"""Takes payments and labels into what is known, and reads features off it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from operator import attrgetter
from typing import Any, Final, Literal, get_args

from streamproc import ConfigError
from streamproc_fraud.events import Geo, PaymentAuthorized
from streamproc_fraud.features.card import (
    BUCKETED_ROWS,
    DAY_US,
    EXACT_ROWS,
    RETENTION_US,
    Card,
    Label,
    Place,
)
from streamproc_fraud.features.catalogue import CATALOGUE
from streamproc_fraud.features.frame import ENTITIES, Frame
from streamproc_fraud.features.reading import Read, read_of
from streamproc_fraud.features.shared import (
    CARDS,
    FRAUDS,
    PAYMENTS,
    Counters,
    Grid,
    amounts_name,
)
from streamproc_fraud.features.travel import travel

__all__ = ["Aggregate", "FeatureEngine", "Precision"]

Aggregate = Literal["count", "amounts", "cards"]
Precision = Literal["exact", "bucketed"]

_BUCKET_US: Final = 900_000_000
_TIDY_EVERY: Final = 8
_NO_PLACE: Final = (float("nan"), float("nan"))
_IDS: Final = {
    "customer": "customer_id",
    "device": "device_id",
    "ip": "ip",
    "terminal": "terminal_id",
}


class FeatureEngine:
    """What is kept of payments, and how exactly.

    Args:
        precision: ``exact`` holds a card's payments one by one and counts what cards share by the
            microsecond; ``bucketed`` bounds both by buckets of a quarter of an hour and more.
        track: what is counted for each entity that cards share.
        label_delay_days: days after a payment until its label is due.

    Raises:
        ConfigError: an entity or an aggregate is none.
    """

    def __init__(
        self,
        precision: Precision = "exact",
        track: Mapping[str, Iterable[str]] | None = None,
        label_delay_days: float = 7.0,
    ) -> None:
        if precision not in ("exact", "bucketed"):
            raise ConfigError(f'precision = {precision!r}: write "exact" or "bucketed"')
        if not 0 <= label_delay_days <= 90:
            raise ConfigError(f"label_delay_days = {label_delay_days}: from 0 to 90")
        self.track = {
            entity: frozenset(aggregates)
            for entity, aggregates in ({"terminal": ("count",)} if track is None else track).items()
        }
        for entity, aggregates in self.track.items():
            if entity not in ENTITIES:
                raise ConfigError(f"track.{entity}: there are {', '.join(ENTITIES)}")
            unknown = aggregates.difference(get_args(Aggregate))
            if unknown:
                known = ", ".join(get_args(Aggregate))
                raise ConfigError(f"track.{entity}: {min(unknown)!r} is none of {known}")
        self._tracked = [
            (entity, attrgetter(_IDS[entity]), aggregates)
            for entity, aggregates in self.track.items()
        ]
        self._rows = EXACT_ROWS if precision == "exact" else BUCKETED_ROWS
        self._grid = Grid(1 if precision == "exact" else _BUCKET_US)
        self._delay_us = round(label_delay_days * DAY_US)
        # What the longest delayed window reaches, and a day for payments that come late.
        self._kept_us = RETENTION_US + self._delay_us + DAY_US

    def plan(self, names: Sequence[str], what: str) -> Read:
        """Return the function that reads features.

        Args:
            names: of features that exist.
            what: who needs them, for the message.

        Raises:
            ConfigError: one needs counts that are not tracked.
        """
        features = []
        for name in names:
            feature = CATALOGUE.get(name)
            if feature is None:
                raise ConfigError(f"{what}: there is no feature {name!r}")
            if feature.entity and feature.tracked not in self.track.get(feature.entity, ()):
                raise ConfigError(
                    f"{what}: feature {name} needs what is not counted; add {feature.tracked!r} "
                    f"to processors.fraud.track.{feature.entity}"
                )
            features.append(feature)
        return read_of(features)

    def shared_keys(self, payment: PaymentAuthorized) -> list[tuple[str, str]]:
        """Return the keys of the counters that a payment touches."""
        keys = []
        for entity, name_of, _ in self._tracked:
            name = name_of(payment)
            if name:
                keys.append((entity, name))
        return keys

    def take(
        self,
        payment: PaymentAuthorized,
        time_us: int,
        card: Card,
        counters: Mapping[Any, Counters],
    ) -> Frame:
        """Take a payment into its card and counters; return it among them."""
        terminal = terminal_digest(payment.terminal_id)
        card.payments.add(time_us, payment.amount_minor, payment.currency, terminal, self._rows)
        shared: dict[str, Counters] = {}
        bucket = time_us // self._grid.width_us
        for entity, name_of, tracked in self._tracked:
            name = name_of(payment)
            if name:
                held = shared[entity] = counters[entity, name]
                if "count" in tracked:
                    held.add(PAYMENTS, 1, bucket=bucket)
                if len(tracked) > 1 or "count" not in tracked:
                    self._take_values(payment, time_us, held, tracked)
        # Which payments tidy up is a matter of their time, so that a replay does the same.
        if not time_us // 1_000_000 % _TIDY_EVERY:
            self._tidy(payment, time_us, shared)
        geo, way = payment.geo, _NO_PLACE
        if geo is not None and is_place(geo):
            way = travel(card.places, Place(time_us, geo.lat, geo.lon))
        return Frame(payment, time_us, card, shared, self._grid, self._delay_us, way)

    def _take_values(
        self, payment: PaymentAuthorized, time_us: int, held: Counters, tracked: frozenset[str]
    ) -> None:
        grid = self._grid
        if "amounts" in tracked:
            name = amounts_name(payment.currency)
            grid.add_value(held, name, time_us, payment.amount_minor)
        if "cards" in tracked:
            grid.add_value(held, CARDS, time_us, card_digest(payment.card_id))

    def _tidy(
        self, payment: PaymentAuthorized, time_us: int, shared: Mapping[str, Counters]
    ) -> None:
        for entity, held in shared.items():
            names = self._names(payment, self.track[entity])
            self._grid.forget_before(held, time_us - self._kept_us, names)

    def _names(self, payment: PaymentAuthorized, tracked: frozenset[str]) -> list[str]:
        """Return the names of the counters that grow with payments, or with labels."""
        names = [PAYMENTS, FRAUDS] if "count" in tracked else []
        if "amounts" in tracked:
            names.append(amounts_name(payment.currency))
        return [*names, CARDS] if "cards" in tracked else names

    def take_label(
        self, payment_id: str, label: Label, card: Card, terminal: Counters | None
    ) -> int:
        """Take a label in; return by how much the frauds at the terminal change."""
        change = card.label(payment_id, label)
        if change and terminal is not None:
            self._grid.add(terminal, FRAUDS, label.payment_us, change)
        return change


def is_place(geo: Geo) -> bool:
    """Whether a place is one on earth."""
    return isfinite(geo.lat) and isfinite(geo.lon) and abs(geo.lat) <= 90 and abs(geo.lon) <= 180


def card_digest(card: str) -> int:
    """Return 32 bits that stand for a card among those of one counter."""
    return int.from_bytes(blake2b(card.encode(), digest_size=4).digest(), "little")


@lru_cache(maxsize=65_536)
def terminal_digest(terminal: str) -> bytes:
    """Return 4 bytes that stand for a terminal among those of one card."""
    return blake2b(terminal.encode(), digest_size=4).digest()
