"""Random histories: events that hang together, and some that contradict each other."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from streamproc import Event
from streamproc_inventory import OrderLine

from .making import (
    At,
    adjusted,
    cancelled,
    committed,
    counted,
    expected,
    kit,
    line,
    placed,
    policy,
    received,
    released,
    reserved,
    returned,
    shipped,
    transferred,
)

SKUS: Final = ("SKU-1", "SKU-2", "SKU-3")
WAREHOUSES: Final = ("WH-1", "WH-2")
PLACES: Final = tuple((sku, at) for sku in SKUS for at in WAREHOUSES)

LONG: Final = 1e5
"""An expiry that does not come within a history."""


class Historian:
    """Draws histories of one seed; no two events of one have the same id.

    Args:
        seed: of all chance.
        most: events in a history, at most.
    """

    def __init__(self, seed: int, most: int = 60) -> None:
        self.rng = random.Random(seed)
        self._most = most
        self._made = 0
        self._orders: dict[str, list[tuple[str, int, str, str]]] = {}
        self._reservations: list[tuple[str, int, str, str]] = []
        self._ended: set[tuple[str, str]] = set()
        self._transfers: list[tuple[str, str, int, str, str]] = []

    def history(self) -> list[At]:
        """Return events in the order in which they happened."""
        rng = self.rng
        events: list[At] = []
        second = 0.0
        makers: list[Callable[[float], Event]] = [
            self._receive,
            self._receive,
            self._place,
            self._place,
            self._place_kit,
            self._cancel,
            self._ship,
            self._ship,
            self._return,
            self._expect,
            self._transfer,
            self._adjust,
            self._count,
            self._set_policy,
            self._reserve,
            self._end_reservation,
        ]
        for _ in range(rng.randint(1, self._most)):
            second += rng.choice((0.0, 0.5, 1.0, 3.0))
            events.append(At(second, rng.choice(makers)(second)))
        return events

    def deliveries(self, history: list[At]) -> list[At]:
        """Return a history as it may arrive: out of order, some of it twice."""
        rng = self.rng
        disorder = rng.choice((0, 2, 10, len(history)))
        arriving = sorted(history, key=lambda e: history.index(e) + rng.uniform(0, disorder))
        for again in rng.choices(history, k=rng.randint(0, 5)):
            arriving.insert(rng.randint(0, len(arriving)), again)
        return arriving

    def _id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    def _receive(self, second: float) -> Event:
        sku, at = self.rng.choice(PLACES)
        quantity = self.rng.randint(1, 12)
        announced = self.rng.choice((0, quantity // 2))
        return received(self._id("r"), quantity, sku, at, from_incoming=announced)

    def _place(self, second: float) -> Event:
        order = self._id("o")
        lines = [
            (str(n), self.rng.randint(1, 4), *self.rng.choice(PLACES))
            for n in range(self.rng.randint(1, 3))
        ]
        self._orders[order] = lines
        held = self.rng.choice(self._reservations)[0] if self._reservations else None
        use = held if self.rng.random() < 0.2 else None
        return placed(order, *[line(q, n, sku, at, reservation_id=use) for n, q, sku, at in lines])

    def _place_kit(self, second: float) -> Event:
        order, at, kits = self._id("o"), self.rng.choice(WAREHOUSES), self.rng.randint(1, 2)
        self._orders[order] = [("k", kits, "SKU-1", at), ("k", 2 * kits, "SKU-2", at)]
        parts = {"SKU-1": 1, "SKU-2": 2}
        return placed(order, kit(kits, "k", at, **parts))

    def _some_lines(self) -> tuple[str, list[tuple[str, int, str, str]]]:
        """Return an order and lines of it; seldom one that nobody ever placed."""
        if not self._orders or self.rng.random() < 0.03:
            return "nobody's", [("0", self.rng.randint(1, 3), *self.rng.choice(PLACES))]
        order = self.rng.choice(list(self._orders))
        lines = self._orders[order]
        return order, self.rng.sample(lines, self.rng.randint(1, len(lines)))

    def _cancel(self, second: float) -> Event:
        order, lines = self._some_lines()
        return cancelled(self._id("c"), order, *[self._part(each) for each in lines])

    def _ship(self, second: float) -> Event:
        order, lines = self._some_lines()
        return shipped(self._id("s"), order, *[self._part(each) for each in lines])

    def _part(self, each: tuple[str, int, str, str]) -> OrderLine:
        line_id, quantity, sku, at = each
        return line(self.rng.randint(1, quantity), line_id, sku, at)

    def _return(self, second: float) -> Event:
        order, lines = self._some_lines()
        line_id, quantity, sku, at = lines[0]
        return returned(
            self._id("b"),
            order,
            self.rng.randint(1, quantity),
            self.rng.choice(("restock", "damaged", "quality_control")),
            line_id,
            sku,
            at,
        )

    def _expect(self, second: float) -> Event:
        return expected(self._id("i"), self.rng.randint(1, 9), *self.rng.choice(PLACES))

    def _transfer(self, second: float) -> Event:
        if self._transfers and self.rng.random() < 0.6:
            transfer, sku, quantity, source, target = self._transfers.pop()
            phase = self.rng.choice(("in", "in", "lost"))
        else:
            transfer, sku, quantity = self._id("t"), self.rng.choice(SKUS), self.rng.randint(1, 5)
            source, target = self.rng.sample(WAREHOUSES, 2)
            self._transfers.append((transfer, sku, quantity, source, target))
            phase = "out"
        return transferred(self._id("m"), phase, quantity, transfer, sku, source, target)

    def _adjust(self, second: float) -> Event:
        sku, at = self.rng.choice(PLACES)
        quantity = self.rng.choice((-2, -1, 1, 2))
        condition = self.rng.choice(("available", "damaged", "quality_control"))
        return adjusted(self._id("a"), quantity, "shrinkage", sku, at, condition=condition)

    def _count(self, second: float) -> Event:
        as_of = max(0.0, second - self.rng.choice((0.0, 1.0, 4.0)))
        return counted(self._id("n"), self.rng.randint(0, 20), as_of, *self.rng.choice(PLACES))

    def _set_policy(self, second: float) -> Event:
        return policy(self._id("p"), self.rng.randint(0, 3))

    def _reserve(self, second: float) -> Event:
        reservation = (self._id("v"), self.rng.randint(1, 4), *self.rng.choice(PLACES))
        self._reservations.append(reservation)
        name, quantity, sku, at = reservation
        return reserved(name, quantity, LONG, sku, at)

    def _end_reservation(self, second: float) -> Event:
        if not self._reservations:
            return self._reserve(second)
        # Some are ended both ways, which is a contradiction.
        name, quantity, sku, place = self.rng.choice(self._reservations)
        way = self.rng.choice(("released", "committed"))
        if (name, way) in self._ended:
            return self._reserve(second)
        self._ended.add((name, way))
        if way == "released":
            return released(name, sku, place)
        order = self._id("o")
        self._orders[order] = [("0", quantity, sku, place)]
        return committed(name, quantity, order, "0", sku, place)
