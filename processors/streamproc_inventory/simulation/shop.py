"""A shop's day as events, from a seed: what happens, when, and what it leaves in stock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Literal

import msgspec

from streamproc import Event
from streamproc_inventory.facts import (
    Component,
    InboundExpected,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    ReservationCommitted,
    ReservationCreated,
    ReservationReleased,
    ReturnReceived,
    StockAdjusted,
    StockCounted,
    StockPolicySet,
    StockReceived,
    StockTransferred,
)
from streamproc_inventory.simulation.shelf import Place, Shelf

__all__ = ["Happening", "Shop", "ShopSettings"]

_MINUTE: Final = 60_000
Disposition = Literal["restock", "damaged", "quality_control"]
_DISPOSITIONS: Final[tuple[Disposition, ...]] = (
    *("restock",) * 3,
    "damaged",
    "quality_control",
)


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of shop it is.

    Attributes:
        skus: items, of which a tenth are kits of others.
        hours: of simulated time.
        start: when it opens.
        orders: about how many are placed.
        zipf: exponent of demand; 0 sells all items alike, 1 the usual few.
        numbered: the warehouse whose system numbers its events for each stock.
    """

    skus: int = 100
    hours: float = 24.0
    start: datetime
    orders: int = 1_000
    zipf: float = 1.0
    warehouses: tuple[str, str] = ("WH-EU-1", "WH-US-1")
    numbered: str | None = "WH-EU-1"


class Happening(msgspec.Struct, frozen=True):
    """An event, when it happened, and the key by which its producer orders it."""

    time: datetime
    event: Event
    key: str
    is_numbered: bool


class Shop:
    """Makes a day's events in the order of their time, and keeps the books as it goes.

    Demand is Zipf-like; suppliers deliver what runs low after their lead time; goods are sold with
    and without reservations, alone and in kits, shipped in parts, cancelled, sent back, moved
    between the warehouses, broken, stolen (which nobody tells) and counted (which finds it).

    Args:
        seed: of all chance.
        settings: what kind of shop it is.

    Attributes:
        shelves: what is in stock, as of the last event made; at the end, what a consumer of all
            events must come to once reservations that nobody ended have expired.
    """

    def __init__(self, seed: int, settings: ShopSettings) -> None:
        self._rng = Random(f"streamproc inventory {seed}")
        self._settings = settings
        self._now = 0
        self._end = int(settings.hours * 60 * _MINUTE)
        self._due: list[tuple[int, int, Callable[[], Iterable[Happening]]]] = []
        self._ids = itertools.count(1)
        kits = settings.skus // 10
        self._skus = [f"SKU-{n:05}" for n in range(settings.skus - kits)]
        self._kits = {
            f"KIT-{n:05}": tuple(
                Component(sku=sku, quantity=self._rng.choice((1, 1, 2)))
                for sku in self._rng.sample(self._skus, min(3, len(self._skus)))
            )
            for n in range(kits)
        }
        offered = [*self._skus, *self._kits]
        self._rng.shuffle(offered)
        self._offered = offered
        weights = [1 / (rank + 1) ** settings.zipf for rank in range(len(offered))]
        self._weights = list(itertools.accumulate(weights))
        self._lead = {sku: self._rng.randint(30, 240) * _MINUTE for sku in self._skus}
        self.shelves: dict[Place, Shelf] = {}

    def happenings(self) -> Iterator[Happening]:
        """Yield the events of the day; once."""
        for warehouse in self._settings.warehouses:
            for sku in self._skus:
                yield from self._stock_up(sku, warehouse)
        for _ in range(self._settings.orders):
            self._at(self._rng.randint(self._now, self._end), self._sell)
        for _ in range(max(1, self._settings.orders // 25)):
            for happens in (self._count, self._break, self._steal, self._transfer):
                self._at(self._rng.randint(self._now, self._end), happens)
        while self._due:
            due, _, make = heapq.heappop(self._due)
            self._now = max(self._now + 1, due)
            yield from make()

    # Supply.

    def _stock_up(self, sku: str, warehouse: str) -> Iterator[Happening]:
        share = self._weights[-1] / (self._offered.index(sku) + 1)
        units = 3 + int(self._settings.orders * self._rng.uniform(0.2, 1.2) / (2 + share))
        yield self._receive(sku, warehouse, units, 0)
        if self._rng.random() < 0.1:
            safety = self._rng.randint(1, 3)
            self._shelf(sku, warehouse).safety_stock = safety
            policy = self._id("policy")
            yield self._tell(
                StockPolicySet(
                    policy_id=policy, sku=sku, location_id=warehouse, safety_stock=safety
                ),
                sku,
            )

    def _receive(self, sku: str, warehouse: str, units: int, announced: int) -> Happening:
        shelf = self._shelf(sku, warehouse)
        shelf.move(units)
        shelf.incoming -= announced
        event = StockReceived(
            receipt_id=self._id("receipt"),
            sku=sku,
            location_id=warehouse,
            quantity=units,
            from_incoming=announced,
            sequence=self._number(shelf),
        )
        return self._tell(event, sku)

    def _reorder(self, sku: str, warehouse: str) -> Iterator[Happening]:
        shelf = self._shelf(sku, warehouse)
        if shelf.physical + shelf.incoming > 4:
            return
        units = self._rng.randint(5, 30)
        shelf.incoming += units
        event = InboundExpected(
            inbound_id=self._id("inbound"),
            sku=sku,
            location_id=warehouse,
            quantity=units,
            sequence=self._number(shelf),
        )
        yield self._tell(event, sku)

        def arrive() -> Iterator[Happening]:
            yield self._receive(sku, warehouse, units, units)

        self._later(self._lead[sku], arrive)

    # Demand.

    def _sell(self) -> Iterator[Happening]:
        rng, warehouse = self._rng, self._rng.choice(self._settings.warehouses)
        order, chosen = self._id("order"), {self._pick() for _ in range(rng.choice((1, 1, 2, 3)))}
        wanted = [(str(n), sku, rng.choice((1, 1, 2))) for n, sku in enumerate(sorted(chosen), 1)]
        if rng.random() < 0.25:
            yield from self._reserve(order, warehouse, wanted[0])
        else:
            yield self._place(order, warehouse, wanted)

    def _place(
        self,
        order: str,
        warehouse: str,
        wanted: list[tuple[str, str, int]],
        reservation: str | None = None,
    ) -> Happening:
        lines = [self._line(warehouse, *each, reservation=reservation) for each in wanted]
        for line in lines:
            for sku, units in _parts(line):
                self._shelf(sku, warehouse).committed += units
        self._plan_fate(order, warehouse, wanted)
        return self._tell(OrderPlaced(order_id=order, lines=lines), order)

    def _reserve(
        self, order: str, warehouse: str, wanted: tuple[str, str, int]
    ) -> Iterator[Happening]:
        line_id, sku, units = wanted
        reservation, minutes = self._id("reservation"), self._rng.randint(5, 30)
        about: dict[str, Any] = {
            "reservation_id": reservation,
            "sku": sku,
            "location_id": warehouse,
            "components": self._kits.get(sku, ()),
        }
        expires = self._time + timedelta(minutes=minutes)
        numbers = self._numbers(sku, warehouse)
        created = ReservationCreated(**about, quantity=units, expires_at=expires, **numbers)
        yield self._tell(created, reservation)
        chance = self._rng.random()

        def release() -> Iterator[Happening]:
            numbers = self._numbers(sku, warehouse)
            yield self._tell(ReservationReleased(**about, **numbers), reservation)

        def commit() -> Iterator[Happening]:
            event = ReservationCommitted(
                **about,
                quantity=units,
                order_id=order,
                line_id=line_id,
                **self._numbers(sku, warehouse),
            )
            yield self._tell(event, reservation)
            yield self._place(order, warehouse, [wanted])

        def buy() -> Iterator[Happening]:
            yield self._place(order, warehouse, [wanted], reservation)

        if chance < 0.75:
            wait = self._rng.randint(1, minutes * _MINUTE - _MINUTE)
            self._later(wait, release if chance < 0.2 else commit if chance < 0.45 else buy)

    def _plan_fate(self, order: str, warehouse: str, wanted: list[tuple[str, str, int]]) -> None:
        """Ship most orders, some in parts; cancel some; leave the rest open."""
        chance, first = self._rng.random(), self._rng.randint(5, 90) * _MINUTE
        if chance < 0.1:
            self._later(first, lambda: self._cancel(order, warehouse, wanted))
        elif chance < 0.75:
            self._later(first, lambda: self._ship(order, warehouse, wanted))
        elif chance < 0.9 and len(wanted) > 1:
            self._later(first, lambda: self._ship(order, warehouse, wanted[:1]))
            self._later(2 * first, lambda: self._cancel(order, warehouse, wanted[1:]))

    def _cancel(
        self, order: str, warehouse: str, wanted: list[tuple[str, str, int]]
    ) -> Iterator[Happening]:
        lines = [self._line(warehouse, *each) for each in wanted]
        for line in lines:
            for sku, units in _parts(line):
                self._shelf(sku, warehouse).committed -= units
        event = OrderCancelled(cancellation_id=self._id("cancel"), order_id=order, lines=lines)
        yield self._tell(event, order)

    def _ship(
        self, order: str, warehouse: str, wanted: list[tuple[str, str, int]]
    ) -> Iterator[Happening]:
        """Ship what is there; try the rest again later, as its suppliers deliver."""
        there = [each for each in wanted if self._is_there(warehouse, *each[1:])]
        missing = [each for each in wanted if each not in there]
        if missing and self._now < self._end:
            self._later(60 * _MINUTE, lambda: self._ship(order, warehouse, missing))
        if not there:
            return
        lines = [self._line(warehouse, *each) for each in there]
        for line in lines:
            for sku, units in _parts(line):
                shelf = self._shelf(sku, warehouse)
                shelf.committed -= units
                shelf.move(-units)
        event = OrderShipped(shipment_id=self._id("ship"), order_id=order, lines=lines)
        yield self._tell(event, order)
        for sku in {sku for line in lines for sku, _ in _parts(line)}:
            yield from self._reorder(sku, warehouse)
        if self._rng.random() < 0.08:
            wait = self._rng.randint(60, 400) * _MINUTE
            self._later(wait, lambda: self._take_back(order, warehouse, there[0]))

    def _take_back(
        self, order: str, warehouse: str, wanted: tuple[str, str, int]
    ) -> Iterator[Happening]:
        line_id, sku, units = wanted
        disposition = self._rng.choice(_DISPOSITIONS)
        parts = self._kits.get(sku, ())
        for part, each in [(p.sku, p.quantity) for p in parts] or [(sku, 1)]:
            shelf = self._shelf(part, warehouse)
            shelf.move(units * each)
            if disposition != "restock":
                shelf.put(disposition, units * each)
        event = ReturnReceived(
            return_id=self._id("return"),
            order_id=order,
            line_id=line_id,
            sku=sku,
            location_id=warehouse,
            quantity=units,
            disposition=disposition,
            components=parts,
            **self._numbers(sku, warehouse),
        )
        yield self._tell(event, order)

    # What happens to goods.

    def _transfer(self) -> Iterator[Happening]:
        sku = self._rng.choice(self._skus)
        source, target = self._rng.sample(self._settings.warehouses, 2)
        units, transfer = self._rng.randint(1, 3), self._id("transfer")
        if self._shelf(sku, source).physical < units:
            return
        about: dict[str, Any] = {
            "transfer_id": transfer,
            "sku": sku,
            "from_location_id": source,
            "to_location_id": target,
            "quantity": units,
        }
        self._shelf(sku, source).move(-units)
        self._shelf(sku, target).incoming += units
        yield self._tell(
            StockTransferred(**about, movement_id=self._id("move"), phase="out"), transfer
        )

        def end() -> Iterator[Happening]:
            is_lost = self._rng.random() < 0.1
            shelf = self._shelf(sku, target)
            shelf.incoming -= units
            if not is_lost:
                shelf.move(units)
            event = StockTransferred(
                **about, movement_id=self._id("move"), phase="lost" if is_lost else "in"
            )
            yield self._tell(event, transfer)

        self._later(self._rng.randint(60, 300) * _MINUTE, end)

    def _break(self) -> Iterator[Happening]:
        sku, warehouse = self._rng.choice(self._skus), self._rng.choice(self._settings.warehouses)
        shelf = self._shelf(sku, warehouse)
        if shelf.physical < 1:
            return
        shelf.move(-1)
        event = StockAdjusted(
            adjustment_id=self._id("adjust"),
            sku=sku,
            location_id=warehouse,
            quantity=-1,
            reason="broken",
            actor="floor",
            sequence=self._number(shelf),
        )
        yield self._tell(event, sku)

    def _steal(self) -> Iterable[Happening]:
        """Take a unit off the shelf and tell nobody."""
        sku, warehouse = self._rng.choice(self._skus), self._rng.choice(self._settings.warehouses)
        shelf = self._shelf(sku, warehouse)
        shelf.physical -= shelf.physical > 0
        return ()

    def _count(self) -> Iterable[Happening]:
        """Count now, and tell it a few minutes later, while the shop goes on."""
        sku, warehouse = self._rng.choice(self._skus), self._rng.choice(self._settings.warehouses)
        shelf, as_of = self._shelf(sku, warehouse), self._time
        counted = shelf.physical
        shelf.on_hand = counted

        def tell() -> Iterator[Happening]:
            event = StockCounted(
                count_id=self._id("count"),
                sku=sku,
                location_id=warehouse,
                quantity=counted,
                as_of=as_of,
                actor="counter",
                sequence=self._number(shelf),
            )
            yield self._tell(event, sku)

        self._later(self._rng.randint(1, 5) * _MINUTE, tell)
        return ()

    # Parts.

    @property
    def _time(self) -> datetime:
        return self._settings.start + timedelta(milliseconds=self._now)

    def _tell(self, event: Event, key: str) -> Happening:
        lines = getattr(event, "lines", None) or (event,)
        numbered = any(getattr(line, "sequence", None) is not None for line in lines)
        happening = Happening(self._time, event, key, numbered)
        self._now += 1  # no two happen in one millisecond
        return happening

    def _line(
        self, warehouse: str, line_id: str, sku: str, units: int, reservation: str | None = None
    ) -> OrderLine:
        return OrderLine(
            line_id=line_id,
            sku=sku,
            location_id=warehouse,
            quantity=units,
            components=self._kits.get(sku, ()),
            reservation_id=reservation,
            **self._numbers(sku, warehouse),
        )

    def _numbers(self, sku: str, warehouse: str) -> dict[str, Any]:
        """Return the sequence of an event about an item; kits have none."""
        if sku in self._kits:
            return {}
        return {"sequence": self._number(self._shelf(sku, warehouse))}

    def _number(self, shelf: Shelf) -> int | None:
        if shelf.place[1] != self._settings.numbered:
            return None
        shelf.sequence += 1
        return shelf.sequence

    def _is_there(self, warehouse: str, sku: str, units: int) -> bool:
        parts = self._kits.get(sku)
        wanted = [(p.sku, p.quantity * units) for p in parts] if parts else [(sku, units)]
        return all(self._shelf(part, warehouse).physical >= n for part, n in wanted)

    def _pick(self) -> str:
        (chosen,) = self._rng.choices(self._offered, cum_weights=self._weights)
        return chosen

    def _shelf(self, sku: str, warehouse: str) -> Shelf:
        place = (sku, warehouse)
        if place not in self.shelves:
            self.shelves[place] = Shelf(place)
        return self.shelves[place]

    def _at(self, due: int, make: Callable[[], Iterable[Happening]]) -> None:
        heapq.heappush(self._due, (due, next(self._ids), make))

    def _later(self, wait: int, make: Callable[[], Iterable[Happening]]) -> None:
        self._at(self._now + wait, make)

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._ids):07}"


def _parts(line: OrderLine) -> list[tuple[str, int]]:
    """Return (sku, units) of what an order's line moves."""
    parts = [(part.sku, part.quantity * line.quantity) for part in line.components]
    return parts or [(line.sku, line.quantity)]
