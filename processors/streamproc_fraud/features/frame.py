"""One payment among what is known: everything that features are read off."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import nan
from typing import Final

from streamproc_fraud.currencies import MINOR_UNITS
from streamproc_fraud.events import PaymentAuthorized
from streamproc_fraud.features.card import Card, Payments
from streamproc_fraud.features.shared import CARDS, FRAUDS, PAYMENTS, Shared, amounts_name

__all__ = ["ENTITIES", "Frame"]

ENTITIES: Final = ("customer", "device", "ip", "terminal")
"""What cards share, and so shards may."""

_NO_PLACE: Final = (nan, nan)
_DAY_S: Final = 86_400


class Frame:
    """A payment that its card and what it shares have taken in already.

    Windows end with the payment, (t - w, t], and hold what came before it and itself; of payments
    with its very time, those that were delivered before it. Where payments were merged, a late one
    may stand in a bucket that reaches beyond its time; its windows hold itself all the same.

    Args:
        payment: the payment.
        time_us: its event time, in microseconds since the epoch as all times here.
        card: the card's state.
        shared: the counters of what it shares, by entity.
        label_delay_us: after how long labels are due.
        travel: km and km/h from the neighbouring payment.
    """

    __slots__ = ("_amounts", "_counts", "_delayed", "_end", "_money", "_starts", "_times", "amount",
                 "card", "hour", "label_delay_us", "late_us", "minor_units", "payment", "shared",
                 "time_us", "travel", "weekday")  # fmt: skip

    def __init__(
        self,
        payment: PaymentAuthorized,
        time_us: int,
        card: Card,
        shared: Mapping[str, Shared],
        label_delay_us: int,
        travel: tuple[float, float] = _NO_PLACE,
    ) -> None:
        self.payment = payment
        self.time_us = time_us
        self.card = card
        self.shared = shared
        self.label_delay_us = label_delay_us
        self.travel = travel
        self.minor_units = MINOR_UNITS[payment.currency]
        self.amount = payment.amount_minor / self.minor_units
        days, second = divmod(time_us // 1_000_000, _DAY_S)
        self.hour = second // 3_600
        self.weekday = (days + 3) % 7  # the epoch was a Thursday
        payments = card.payments
        self._times = memoryview(payments.times).cast("q")
        self._amounts = memoryview(payments.amounts).cast("q")
        held = len(payments)
        newest = self._times[held - 1]
        self.late_us = newest - time_us
        self._end = held if newest <= time_us else bisect_right(self._times, time_us)
        self._starts: dict[int, int] = {}
        self._money: dict[int, tuple[int, int]] = {}
        self._delayed: dict[int, tuple[float, float]] = {}
        self._counts = memoryview(payments.counts).cast("I") if payments.counts else None

    def release(self) -> None:
        """Let go of the card's columns, which cannot change while they are looked at."""
        self._times.release()
        self._amounts.release()
        if self._counts is not None:
            self._counts.release()

    def since_last(self) -> float:
        """Return seconds since the card's payment before this one; NaN without one."""
        return (self.time_us - self._times[self._end - 2]) / 1e6 if self._end > 1 else nan

    def card_count(self, window_us: int) -> int:
        """Return how many payments of the card are in a window."""
        first = self._start(window_us)
        counts = self._counts
        return self._end - first if counts is None else max(1, sum(counts[first : self._end]))

    def card_money(self, window_us: int) -> tuple[int, int]:
        """Return count and sum in minor units of those in the payment's currency."""
        found = self._money.get(window_us)
        if found is None:
            first, end = self._start(window_us), self._end
            if self._counts is None and len(self.card.payments.codes) == 1:
                # As a list it is summed a third faster than as a view.
                found = end - first, sum(self._amounts[first:end].tolist())
            else:
                rows = self._rows_in_currency(first, end)
                counts = self._counts
                found = (
                    len(rows) if counts is None else sum([counts[row] for row in rows]),
                    sum([self._amounts[row] for row in rows]),
                )
                if not rows:
                    found = 1, self.payment.amount_minor
            self._money[window_us] = found
        return found

    def card_extremes(self, window_us: int) -> tuple[int, int]:
        """Return the least and the greatest amount in minor units, in the payment's currency."""
        payments = self.card.payments
        rows = self._rows_in_currency(self._start(window_us), self._end)
        if not rows:
            return self.payment.amount_minor, self.payment.amount_minor
        if self._counts is None:
            amounts = [self._amounts[row] for row in rows]
            return min(amounts), max(amounts)
        with memoryview(payments.least) as least, memoryview(payments.most) as most:
            lows, highs = least.cast("q"), most.cast("q")
            return min([lows[row] for row in rows]), max([highs[row] for row in rows])

    def card_terminals(self, window_us: int) -> float:
        """Return how many different terminals; NaN where payments were merged."""
        first, end = self._start(window_us), self._end
        if self._counts is not None and sum(self._counts[first:end]) != end - first:
            return nan
        with memoryview(self.card.payments.terminals) as terminals:
            return float(max(1, len(set(terminals.cast("I")[first:end]))))

    def shared_count(self, entity: str, window_us: int) -> float:
        """Return how many payments of what is shared are in a window; NaN without it."""
        shared = self.shared.get(entity)
        if shared is None:
            return nan
        return float(shared.total(PAYMENTS, self.time_us - window_us, self.time_us))

    def shared_amounts(self, entity: str, window_us: int) -> list[tuple[int, int]]:
        """Return amounts in the payment's currency and how often each, its own among them."""
        shared = self.shared.get(entity)
        if shared is None:
            return []
        name = amounts_name(self.payment.currency)
        return shared.values(name, self.time_us - window_us, self.time_us)

    def shared_cards(self, entity: str, window_us: int) -> float:
        """Return how many different cards; NaN without what is shared."""
        shared = self.shared.get(entity)
        if shared is None:
            return nan
        return float(
            len({c for c, _ in shared.values(CARDS, self.time_us - window_us, self.time_us)})
        )

    def terminal_delayed(self, window_us: int) -> tuple[float, float]:
        """Return payments and known frauds at the terminal in the window that ends a delay ago."""
        found = self._delayed.get(window_us)
        if found is None:
            shared = self.shared.get("terminal")
            if shared is None:
                return nan, nan
            end = self.time_us - self.label_delay_us
            start = end - window_us
            found = (
                float(shared.total(PAYMENTS, start, end)),
                float(shared.total(FRAUDS, start, end)),
            )
            self._delayed[window_us] = found
        return found

    def terminal_risk(self, window_us: int) -> float:
        """Return known frauds over payments; 0 without payments, never above 1."""
        payments, frauds = self.terminal_delayed(window_us)
        # A label may be there before its payment is.
        return min(1.0, frauds / payments) if payments else 0.0

    def _start(self, window_us: int) -> int:
        first = self._starts.get(window_us)
        if first is None:
            first = bisect_right(self._times, self.time_us - window_us, 0, self._end)
            self._starts[window_us] = first
        return first

    def _rows_in_currency(self, first: int, end: int) -> Sequence[int]:
        payments: Payments = self.card.payments
        if len(payments.codes) == 1:
            return range(first, end)
        code = payments.codes.index(self.payment.currency)
        currencies = payments.currencies
        return [row for row in range(first, end) if currencies[row] == code]
