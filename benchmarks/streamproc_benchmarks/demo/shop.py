"""A day in a shop, as events: what happens, in event-time order, from a seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, TypeVar

import msgspec

__all__ = ["LOCATIONS", "Happening", "Shop"]

_EPOCH: Final = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
"""Event time is the shop's own and not the wall clock's: equal seeds give equal bytes."""

LOCATIONS: Final = ("ams", "ber", "lis")
_CURRENCIES: Final = ("EUR", "EUR", "EUR", "GBP", "SEK")
_CARD_PAUSE_MS: Final = 1_800_000  # between two ordinary payments of one card, on average
_MINUTE_MS: Final = 60_000
_SKEW: Final = 1.4  # above 1: low numbers are drawn more often, as in any shop

T = TypeVar("T")
Stock = tuple[str, str]
Line = dict[str, Any]


class Happening(msgspec.Struct, frozen=True):
    """One event: its type, when it happened, whom it is ordered with, and the payload."""

    type: str
    time: str
    key: str
    data: dict[str, Any]


class Shop:
    """Makes events that hang together: orders are shipped or cancelled, cards have habits.

    What must not depend on the order in which shards are read does not: no more is ever shipped
    than was in stock at the opening, and no order line is closed beyond its quantity. Some stocks
    open with too little, so that they end oversold.

    Args:
        rng: all chance comes from here.
        size: about how many events will be asked for; sizes the catalogue and the card base.
    """

    def __init__(self, rng: Random, size: int) -> None:
        self._rng = rng
        self._clock_ms = 0
        self._follow_ups: list[tuple[int, int, Callable[[], Happening | None]]] = []
        self._made = 0
        cards = max(20, size // 100)
        self._cards = [
            (f"card-{n:05}", round(rng.lognormvariate(8.1, 0.35)), rng.choice(_CURRENCIES))
            for n in range(cards)
        ]
        self._step_ms = max(1, int(_CARD_PAUSE_MS * 0.55 / cards))
        self._skus = [f"SKU-{n:04}" for n in range(min(120, max(12, size // 250)))]
        self._opening = self._opening_stock(size)
        self._shippable = dict(self._opening)

    def opening(self) -> list[Happening]:
        """Return the deliveries that fill the shelves before the shop opens."""
        return [self._receipt(stock, quantity) for stock, quantity in self._opening.items()]

    def next(self) -> Happening:
        """Return what happens next."""
        while True:
            if self._follow_ups and self._follow_ups[0][0] <= self._clock_ms:
                self._clock_ms, _, make = heapq.heappop(self._follow_ups)
                happening = make()
                if happening is not None:
                    return happening
                continue
            # The clock must not pass what is due before: events are in event-time order.
            self._clock_ms += self._rng.randint(1, 2 * self._step_ms)
            if self._follow_ups and self._follow_ups[0][0] <= self._clock_ms:
                continue
            return self._draw()

    def _draw(self) -> Happening:
        chance = self._rng.random()
        if chance < 0.55:
            return self._payment()
        if chance < 0.88:
            return self._order()
        skus = [sku for n, sku in enumerate(self._skus) if not self._is_scarce(n)]
        stock = (self._rng.choice(skus), self._rng.choice(LOCATIONS))
        return self._receipt(stock, self._rng.randint(5, 40))

    # Cards.

    def _payment(self) -> Happening:
        card, habit, currency = self._skewed(self._cards)
        chance = self._rng.random()
        amount = max(50, int(habit * self._rng.uniform(0.5, 1.6)))
        if chance < 0.008:
            amount = self._rng.randint(22_500, 90_000)
        elif chance < 0.016:
            amount = habit * 6
        elif chance < 0.021:
            self._spree(card, habit, currency)
        return self._authorized(card, amount, currency)

    def _spree(self, card: str, habit: int, currency: str) -> None:
        """Let a card go through many hands: seven more payments within a minute."""
        due = self._clock_ms
        for _ in range(7):
            due += self._rng.randint(3_000, 8_000)
            self._later(due, lambda: self._authorized(card, max(50, habit // 3), currency))

    def _authorized(self, card: str, amount: int, currency: str) -> Happening:
        number = self._number()
        return self._happening(
            "PaymentAuthorized",
            card,
            {
                "payment_id": f"pay-{number:07}",
                "card_id": card,
                "customer_id": card.replace("card", "cust"),
                "terminal_id": f"term-{self._rng.randrange(200):03}",
                "amount_minor": amount,
                "currency": currency,
                "channel": self._rng.choice(("web", "app", "pos")),
                "geo": {"lat": 52.37, "lon": 4.9},
            },
        )

    # Orders and stock.

    def _order(self) -> Happening:
        rng = self._rng
        order_id = f"order-{self._number():07}"
        location = rng.choice(LOCATIONS)
        skus = {self._skewed(self._skus): None for _ in range(rng.choice((1, 1, 2, 3)))}
        lines: list[Line] = [
            {
                "lineId": str(n),
                "sku": sku,
                "locationId": location,
                "quantity": rng.choice((1, 1, 2, 3)),
            }
            for n, sku in enumerate(skus, 1)
        ]
        self._plan_fate(order_id, lines)
        return self._happening("OrderPlaced", order_id, {"orderId": order_id, "lines": lines})

    def _plan_fate(self, order_id: str, lines: list[Line]) -> None:
        """Cancel some orders, ship most, some in parts; the rest stay open."""
        rng = self._rng
        chance = rng.random()
        first = self._clock_ms + rng.randint(5, 90) * _MINUTE_MS
        second = first + rng.randint(5, 60) * _MINUTE_MS
        if chance < 0.12:
            self._later(first, lambda: self._cancelled(order_id, lines))
        elif chance < 0.18:
            self._later(first, lambda: self._cancelled(order_id, lines[:1]))
            if len(lines) > 1:
                self._later(second, lambda: self._shipped(order_id, lines[1:]))
        elif chance < 0.78:
            self._later(first, lambda: self._shipped(order_id, lines))
        elif chance < 0.86 and len(lines) > 1:
            self._later(first, lambda: self._shipped(order_id, lines[:1]))
            self._later(second, lambda: self._shipped(order_id, lines[1:]))

    def _cancelled(self, order_id: str, lines: list[Line]) -> Happening:
        data = {"cancellationId": f"cancel-{self._number():07}", "orderId": order_id}
        return self._happening("OrderCancelled", order_id, data | {"lines": lines})

    def _shipped(self, order_id: str, lines: list[Line]) -> Happening | None:
        """Ship what the opening stock covers; what it does not cover waits for ever."""
        covered = []
        for line in lines:
            stock = (line["sku"], line["locationId"])
            if line["quantity"] <= self._shippable[stock]:
                self._shippable[stock] -= line["quantity"]
                covered.append(line)
        if not covered:
            return None
        data = {"shipmentId": f"ship-{self._number():07}", "orderId": order_id}
        return self._happening("OrderShipped", order_id, data | {"lines": covered})

    def _receipt(self, stock: Stock, quantity: int) -> Happening:
        sku, location = stock
        return self._happening(
            "StockReceived",
            sku,
            {
                "receiptId": f"receipt-{self._number():07}",
                "sku": sku,
                "locationId": location,
                "quantity": quantity,
            },
        )

    def _opening_stock(self, size: int) -> dict[Stock, int]:
        """Return what each shelf holds at first: more than will be ordered, or far less."""
        units = size * 0.25 * 1.75 * 1.75  # orders, lines of each, units of each
        stocks = {}
        for n, sku in enumerate(self._skus):
            share = ((n + 1) / len(self._skus)) ** (1 / _SKEW) - (n / len(self._skus)) ** (
                1 / _SKEW
            )
            expected = units * share / len(LOCATIONS)
            for location in LOCATIONS:
                factor = 0.4 if self._is_scarce(n) and location == LOCATIONS[0] else 1.5
                stocks[sku, location] = int(expected * factor) + (1 if factor < 1 else 15)
        return stocks

    def _is_scarce(self, sku_number: int) -> bool:
        return sku_number % 10 == 3

    # Parts of an event.

    def _happening(self, type: str, key: str, data: dict[str, Any]) -> Happening:
        time = _EPOCH + timedelta(milliseconds=self._clock_ms)
        text = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Happening(type, text, key, data)

    def _later(self, due_ms: int, make: Callable[[], Happening | None]) -> None:
        # The number decides between two that are due at once; functions do not compare.
        heapq.heappush(self._follow_ups, (due_ms, self._number(), make))

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _skewed(self, items: list[T]) -> T:
        return items[int(len(items) * self._rng.random() ** _SKEW)]
