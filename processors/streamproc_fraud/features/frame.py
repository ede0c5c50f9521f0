"""One payment among what is known: everything that features are read off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Final, Literal

from streamproc_fraud.currencies import MINOR_UNITS
from streamproc_fraud.events import PaymentAuthorized
from streamproc_fraud.features.card import Card, Payments
from streamproc_fraud.features.shared import (
    CARDS,
    FRAUDS,
    PAYMENTS,
    Counters,
    Grid,
    amounts_name,
)

__all__ = ["ENTITIES", "Frame"]

ENTITIES: Final = ("customer", "device", "ip", "terminal")
"""What cards share, and so shards may."""

_NO_PLACE: Final = (nan, nan)


class Frame:
    """A payment that its card and what it shares have taken in already.

    What nearly every payment is asked for is computed by the function that `reading` writes; here
    is what is asked for seldom, or differs where payments were merged or in several currencies.
    Rows of the card are given as `first` and `end`, the place after the last.

    Args:
        payment: the payment.
        time_us: its event time, in microseconds since the epoch as all times here.
        card: the card's state.
        shared: the counters of what it shares, by entity.
        grid: how those are divided into buckets.
        label_delay_us: after how long labels are due.
        travel: km and km/h from the neighbouring payment.
    """

    __slots__ = ("card", "grid", "label_delay_us", "payment", "shared", "time_us", "travel")

    def __init__(
        self,
        payment: PaymentAuthorized,
        time_us: int,
        card: Card,
        shared: Mapping[str, Counters],
        grid: Grid,
        label_delay_us: int,
        travel: tuple[float, float] = _NO_PLACE,
    ) -> None:
        self.payment = payment
        self.time_us = time_us
        self.card = card
        self.shared = shared
        self.grid = grid
        self.label_delay_us = label_delay_us
        self.travel = travel

    def card_frauds(self) -> float:
        """Return how many of the card's payments are known to be frauds."""
        return float(sum([label.state == "fraud" for label in self.card.labels.values()]))

    def merged_count(self, first: int, end: int) -> float:
        """Return how many payments some rows are, of which some may be merged."""
        return float(max(1, sum(_column(self.card.payments.counts, "I")[first:end])))

    def mixed_money(self, first: int, end: int) -> tuple[int, int]:
        """Return count and sum of those in the payment's currency, merged ones among them."""
        rows, payments = self._rows_in_currency(first, end), self.card.payments
        if not rows:
            return 1, self.payment.amount_minor
        counts = _column(payments.counts, "I")
        amounts = _column(payments.amounts, "q")
        count = sum([counts[row] for row in rows]) if counts else len(rows)
        return count, sum([amounts[row] for row in rows])

    def extremes(self, first: int, end: int) -> tuple[int, int]:
        """Return the least and the greatest amount in minor units, in the payment's currency."""
        payments = self.card.payments
        rows = self._rows_in_currency(first, end)
        if not rows:
            return self.payment.amount_minor, self.payment.amount_minor
        if not payments.counts:
            amounts = _column(payments.amounts, "q")
            found = [amounts[row] for row in rows]
            return min(found), max(found)
        lows, highs = _column(payments.least, "q"), _column(payments.most, "q")
        return min([lows[row] for row in rows]), max([highs[row] for row in rows])

    def terminals(self, first: int, end: int) -> float:
        """Return how many different terminals; NaN where payments were merged."""
        payments = self.card.payments
        if payments.counts and sum(_column(payments.counts, "I")[first:end]) != end - first:
            return nan
        return float(max(1, len(set(_column(payments.terminals, "I")[first:end]))))

    def shared_count(self, entity: str, window_us: int) -> float:
        """Return how many payments of what is shared are in a window; NaN without it."""
        counters = self.shared.get(entity)
        if counters is None:
            return nan
        return float(self.grid.totals(counters, PAYMENTS, (window_us,), self.time_us)[0])

    def shared_cards(self, entity: str, window_us: int) -> float:
        """Return how many different cards; NaN without what is shared."""
        counters = self.shared.get(entity)
        if counters is None:
            return nan
        values = self.grid.values(counters, CARDS, self.time_us - window_us, self.time_us)
        return float(len({card for card, _ in values}))

    def shared_amount(
        self, entity: str, window_us: int, what: Callable[[list[tuple[int, int]]], float]
    ) -> float:
        """Return what is said of the amounts in the payment's currency; NaN without any.

        Args:
            entity: whose amounts.
            window_us: how far back.
            what: is given each amount in minor units, and how often there was it.
        """
        counters = self.shared.get(entity)
        if counters is None:
            return nan
        name = amounts_name(self.payment.currency)
        amounts = self.grid.values(counters, name, self.time_us - window_us, self.time_us)
        return what(amounts) / MINOR_UNITS[self.payment.currency] if amounts else nan

    def terminal_delayed(self, window_us: int) -> float:
        """Return payments at the terminal in the window that ends a delay ago; NaN without one."""
        terminal = self.shared.get("terminal")
        if terminal is None:
            return nan
        end_us = self.time_us - self.label_delay_us
        return float(self.grid.totals(terminal, PAYMENTS, (window_us,), end_us)[0])

    def terminal_risks(self, windows_us: Sequence[int]) -> list[float]:
        """Return known frauds over payments for each window that ends a delay ago.

        0 without payments, never above 1; NaN without a terminal.
        """
        terminal = self.shared.get("terminal")
        if terminal is None:
            return [nan] * len(windows_us)
        if FRAUDS not in terminal:  # as in nearly all
            return [0.0] * len(windows_us)
        end_us = self.time_us - self.label_delay_us
        frauds = self.grid.totals(terminal, FRAUDS, windows_us, end_us)
        payments = self.grid.totals(terminal, PAYMENTS, windows_us, end_us)
        # A label may be there before its payment is.
        return [
            min(1.0, known / count) if count else 0.0
            for known, count in zip(frauds, payments, strict=True)
        ]

    def _rows_in_currency(self, first: int, end: int) -> Sequence[int]:
        payments: Payments = self.card.payments
        if len(payments.codes) == 1:
            return range(first, end)
        code = payments.codes.index(self.payment.currency)
        currencies = payments.currencies
        return [row for row in range(first, end) if currencies[row] == code]


def _column(column: bytearray, kind: Literal["I", "q"]) -> memoryview[int]:
    """Return a packed column as numbers; to be let go of before the column changes."""
    return memoryview(column).cast(kind)
