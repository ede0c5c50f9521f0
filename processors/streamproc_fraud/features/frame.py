"""One payment among what is known: everything that features are read off."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Final, Literal

from streamproc_fraud.currencies import MINOR_UNITS
from streamproc_fraud.events import PaymentAuthorized
from streamproc_fraud.features.card import Card, Payments
from streamproc_fraud.features.shared import CARDS, FRAUDS, PAYMENTS, Shared, amounts_name

__all__ = ["ENTITIES", "Frame"]

ENTITIES: Final = ("customer", "device", "ip", "terminal")
"""What cards share, and so shards may."""

_NO_PLACE: Final = (nan, nan)
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 86_400_000_000


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

    __slots__ = ("_end", "_money", "_starts", "_times", "amount", "card", "label_delay_us",
                 "late_us", "minor_units", "payment", "shared", "time_us", "travel")  # fmt: skip

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
        self.minor_units = units = MINOR_UNITS[payment.currency]
        self.amount = payment.amount_minor / units
        self._times = times = memoryview(card.payments.times).cast("q")
        newest = times[-1]
        self.late_us = newest - time_us
        self._end = len(times) if newest <= time_us else bisect_right(times, time_us)
        self._starts: dict[int, int] = {}
        self._money: dict[int, tuple[int, int]] = {}

    def release(self) -> None:
        """Let go of the card's columns, which cannot change while they are looked at."""
        self._times.release()

    @property
    def hour(self) -> int:
        """The hour of the day, UTC."""
        return self.time_us // _HOUR_US % 24

    @property
    def weekday(self) -> int:
        """The day of the week, UTC; Monday is 0."""
        return (self.time_us // _DAY_US + 3) % 7  # the epoch was a Thursday

    def card_frauds(self) -> float:
        """Return how many of the card's payments are known to be frauds."""
        return float(sum([label.state == "fraud" for label in self.card.labels.values()]))

    def since_last(self) -> float:
        """Return seconds since the card's payment before this one; NaN without one."""
        return (self.time_us - self._times[self._end - 2]) / 1e6 if self._end > 1 else nan

    def card_count(self, window_us: int) -> float:
        """Return how many payments of the card are in a window."""
        first = self._start(window_us)
        counts = self.card.payments.counts
        if not counts:
            return float(self._end - first)
        return float(max(1, sum(_column(counts, "I")[first : self._end])))

    def card_money(self, window_us: int) -> tuple[int, int]:
        """Return count and sum in minor units of those in the payment's currency."""
        found = self._money.get(window_us)
        if found is None:
            first, end, payments = self._start(window_us), self._end, self.card.payments
            if len(payments.codes) == 1 and not payments.counts:
                # As a list it is summed a third faster than as a view.
                amounts = memoryview(payments.amounts)[8 * first : 8 * end].cast("q").tolist()
                found = end - first, sum(amounts)
            else:
                found = self._mixed_money(first, end)
            self._money[window_us] = found
        return found

    def card_mean(self, window_us: int) -> float:
        """Return their mean."""
        count, total = self.card_money(window_us)
        return total / self.minor_units / count

    def card_prior_mean(self, window_us: int) -> float:
        """Return the mean of the earlier ones; NaN without any."""
        count, total = self.card_money(window_us)
        earlier = total - self.payment.amount_minor
        return earlier / self.minor_units / (count - 1) if count > 1 else nan

    def card_ratio(self, window_us: int) -> float:
        """Return this amount over the mean of the earlier ones; NaN without any."""
        count, total = self.card_money(window_us)
        amount = self.payment.amount_minor
        return amount * (count - 1) / (total - amount) if total != amount else nan

    def _mixed_money(self, first: int, end: int) -> tuple[int, int]:
        """Return the same of payments in several currencies, or merged ones."""
        rows, payments = self._rows_in_currency(first, end), self.card.payments
        if not rows:
            return 1, self.payment.amount_minor
        counts = _column(payments.counts, "I")
        amounts = _column(payments.amounts, "q")
        count = sum([counts[row] for row in rows]) if counts else len(rows)
        return count, sum([amounts[row] for row in rows])

    def card_extremes(self, window_us: int) -> tuple[int, int]:
        """Return the least and the greatest amount in minor units, in the payment's currency."""
        payments = self.card.payments
        rows = self._rows_in_currency(self._start(window_us), self._end)
        if not rows:
            return self.payment.amount_minor, self.payment.amount_minor
        if not payments.counts:
            amounts = _column(payments.amounts, "q")
            found = [amounts[row] for row in rows]
            return min(found), max(found)
        lows, highs = _column(payments.least, "q"), _column(payments.most, "q")
        return min([lows[row] for row in rows]), max([highs[row] for row in rows])

    def card_terminals(self, window_us: int) -> float:
        """Return how many different terminals; NaN where payments were merged."""
        first, end, payments = self._start(window_us), self._end, self.card.payments
        if payments.counts and sum(_column(payments.counts, "I")[first:end]) != end - first:
            return nan
        return float(max(1, len(set(_column(payments.terminals, "I")[first:end]))))

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

    def shared_amount(
        self, entity: str, window_us: int, what: Callable[[list[tuple[int, int]]], float]
    ) -> float:
        """Return what is said of those amounts, in whole units; NaN without any."""
        amounts = self.shared_amounts(entity, window_us)
        return what(amounts) / self.minor_units if amounts else nan

    def terminal_delayed(self, window_us: int) -> float:
        """Return payments at the terminal in the window that ends a delay ago; NaN without one."""
        terminal = self.shared.get("terminal")
        if terminal is None:
            return nan
        end = self.time_us - self.label_delay_us
        return float(terminal.total(PAYMENTS, end - window_us, end))

    def terminal_risk(self, window_us: int) -> float:
        """Return known frauds over payments; 0 without payments, never above 1."""
        terminal = self.shared.get("terminal")
        if terminal is None:
            return nan
        end = self.time_us - self.label_delay_us
        payments = terminal.total(PAYMENTS, end - window_us, end)
        if not payments:
            return 0.0
        # A label may be there before its payment is.
        return min(1.0, terminal.total(FRAUDS, end - window_us, end) / payments)

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


def _column(column: bytearray, kind: Literal["I", "q"]) -> memoryview[int]:
    """Return a packed column as numbers; to be let go of before the column changes."""
    return memoryview(column).cast(kind)
