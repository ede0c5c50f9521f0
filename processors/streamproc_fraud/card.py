"""What is remembered of a card: recent payment times, and what it usually spends."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Final

import msgspec

__all__ = ["MAX_BASELINE", "MAX_CURRENCIES", "Card", "Spend"]

MAX_BASELINE: Final = 1_000_000
"""Payments in one mean; beyond, its count and sum halve, so that neither grows without bound."""

MAX_CURRENCIES: Final = 8
"""Currencies with a mean of their own; a ninth displaces the one least recently used."""


class Spend(msgspec.Struct):
    """How many payments a card made in one currency, and their sum in minor units."""

    count: int = 0
    total_minor: int = 0

    def ratio_of(self, amount_minor: int) -> float | None:
        """Return the amount over the mean payment; None without payments."""
        return amount_minor * self.count / self.total_minor if self.count else None

    def add(self, amount_minor: int) -> None:
        """Take a payment into the mean."""
        self.count += 1
        self.total_minor += amount_minor
        if self.count > MAX_BASELINE:
            self.count //= 2
            self.total_minor //= 2


class Card(msgspec.Struct):
    """A card's state; its size is bounded whatever the card does.

    Attributes:
        times_us: event times of payments, in microseconds since the epoch, ascending.
        spend: the mean payment's parts, by currency.
    """

    times_us: list[int] = []
    spend: dict[str, Spend] = {}

    def pay_at(self, time_us: int, window_us: int, keep: int) -> int:
        """Note a payment; return how many lie in (time - window, time], itself included.

        Times stay for two windows, so that a payment is counted exactly when it comes up to one
        window behind the newest. Later than that, or with more than `keep` payments in two
        windows (the oldest go first), the count is a lower bound. A time is dropped on account of
        the payment at hand only: one with a clock that runs ahead empties no window twice.
        """
        times = self.times_us
        del times[: bisect_right(times, time_us - 2 * window_us)]
        insort(times, time_us)
        count = bisect_right(times, time_us) - bisect_right(times, time_us - window_us)
        del times[: max(0, len(times) - keep)]
        return count

    def spend_in(self, currency: str) -> Spend:
        """Return the mean payment's parts in a currency, new if it is a new currency."""
        spend = self.spend.pop(currency, None) or Spend()
        while len(self.spend) >= MAX_CURRENCIES:
            del self.spend[next(iter(self.spend))]
        self.spend[currency] = spend  # the last used comes last
        return spend
