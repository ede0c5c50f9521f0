"""What a set of events must come to; shares no code with the processor.

Plain and slow on purpose: whole histories instead of running sums, and the order of the events
given plays no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from streamproc_inventory import (
    InboundExpected,
    ItemBackInStock,
    OrderCancelled,
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

from .making import START, At

Place = tuple[str, str]
Lines = Counter[tuple[Place, str, str]]
Levels = dict[str, int]


def oracle(history: Iterable[At]) -> dict[Place, Levels]:
    """Return every level of every stock that a set of events is about."""
    facts = Facts(history)
    return {place: facts.levels(place) for place in facts.places}


class Facts:
    """The set of events, sorted by what they say."""

    def __init__(self, history: Iterable[At]) -> None:
        self.placed: Lines = Counter()
        self.cancelled: Lines = Counter()
        self.shipped: Lines = Counter()
        self.returned: Lines = Counter()
        self.promised: Lines = Counter()
        self.moves: dict[Place, list[tuple[float, int]]] = defaultdict(list)
        self.counts: dict[Place, list[tuple[float, str, int]]] = defaultdict(list)
        self.incoming: Counter[Place] = Counter()
        self.put: Counter[tuple[Place, str]] = Counter()
        self.created: dict[tuple[Place, str], int] = {}
        self.ended: set[tuple[Place, str]] = set()
        self.policies: dict[Place, list[tuple[float, str, int]]] = defaultdict(list)
        self.places: set[Place] = set()
        self._ids: set[tuple[str, str]] = set()
        for each in history:
            self.add(each)

    def add(self, each: At) -> None:
        """Add an event to the set; one that is in it already changes nothing."""
        if _id(each) not in self._ids:
            self._ids.add(_id(each))
            _NOTE[type(each.event)](self, each.event, each.second)

    def levels(self, place: Place) -> Levels:
        """Return the levels of one stock."""
        of = {key for key in (*self.placed, *self.promised) if key[0] == place}
        on_hand = self.on_hand(place)
        committed = sum(
            max((self.placed[k] or self.promised[k]) - self.cancelled[k] - self.shipped[k], 0)
            for k in of
        )
        live = {key for key in self.created if key[0] == place} - self.ended
        reserved = sum(self.created[key] for key in live)
        damaged = max(self.put[place, "damaged"], 0)
        quality_control = max(self.put[place, "quality_control"], 0)
        safety = max(self.policies[place], default=(0, "", 0))[2]
        return {
            "on_hand": on_hand,
            "committed": committed,
            "reserved": reserved,
            "incoming": self.incoming[place],
            "damaged": damaged,
            "quality_control": quality_control,
            "safety_stock": safety,
            "available": on_hand - committed - reserved - damaged - quality_control - safety,
        }

    def on_hand(self, place: Place) -> int:
        """Return the latest count and what moved after it; all moves where nobody counted."""
        moment, _, counted = max(self.counts[place], default=(float("-inf"), "", 0))
        return counted + sum(units for second, units in self.moves[place] if second > moment)

    def over_closed(self) -> set[tuple[Place, str, str]]:
        """Return the lines of which more was cancelled and shipped than placed."""
        return {k for k, n in self.placed.items() if self.cancelled[k] + self.shipped[k] > n}

    def over_returned(self) -> set[tuple[Place, str, str]]:
        """Return the lines of which more came back than was shipped."""
        return {k for k, n in self.returned.items() if self.shipped[k] and n > self.shipped[k]}

    # What each event says.

    def _lines(
        self, into: Lines, event: OrderPlaced | OrderCancelled | OrderShipped
    ) -> Iterator[tuple[Place, int, str | None]]:
        for line in event.lines:
            parts = [(p.sku, p.quantity * line.quantity) for p in line.components]
            for sku, units in parts or [(line.sku, line.quantity)]:
                place = (sku, line.location_id)
                self.places.add(place)
                into[place, event.order_id, line.line_id] += units
                yield place, units, line.reservation_id

    def note_placed(self, event: OrderPlaced, second: float) -> None:
        for place, _, reservation in self._lines(self.placed, event):
            if reservation is not None:
                self.ended.add((place, reservation))

    def note_cancelled(self, event: OrderCancelled, second: float) -> None:
        list(self._lines(self.cancelled, event))

    def note_shipped(self, event: OrderShipped, second: float) -> None:
        for place, units, _ in self._lines(self.shipped, event):
            self.moves[place].append((second, -units))

    def note_returned(self, event: ReturnReceived, second: float) -> None:
        place = self._place(event)
        self.returned[place, event.order_id, event.line_id] += event.quantity
        self.moves[place].append((second, event.quantity))
        if event.disposition != "restock":
            self.put[place, event.disposition] += event.quantity

    def note_received(self, event: StockReceived | ItemBackInStock, second: float) -> None:
        place = self._place(event)
        self.moves[place].append((second, event.quantity))
        self.incoming[place] -= event.from_incoming

    def note_expected(self, event: InboundExpected, second: float) -> None:
        self.incoming[self._place(event)] += event.quantity

    def note_transferred(self, event: StockTransferred, second: float) -> None:
        source, target = (event.sku, event.from_location_id), (event.sku, event.to_location_id)
        self.places.add(target)
        if event.phase == "out":
            self.places.add(source)
            self.moves[source].append((second, -event.quantity))
            self.incoming[target] += event.quantity
        else:
            self.incoming[target] -= event.quantity
        if event.phase == "in":
            self.moves[target].append((second, event.quantity))

    def note_adjusted(self, event: StockAdjusted, second: float) -> None:
        place = self._place(event)
        self.moves[place].append((second, event.quantity))
        if event.condition != "available":
            self.put[place, event.condition] += event.quantity

    def note_counted(self, event: StockCounted, second: float) -> None:
        moment = event.as_of.timestamp() - START
        self.counts[self._place(event)].append((moment, event.count_id, event.quantity))

    def note_policy(self, event: StockPolicySet, second: float) -> None:
        self.policies[self._place(event)].append((second, event.policy_id, event.safety_stock))

    def note_reserved(self, event: ReservationCreated, second: float) -> None:
        self.created[self._place(event), event.reservation_id] = event.quantity

    def note_released(self, event: ReservationReleased, second: float) -> None:
        self.ended.add((self._place(event), event.reservation_id))

    def note_committed(self, event: ReservationCommitted, second: float) -> None:
        place = self._place(event)
        self.ended.add((place, event.reservation_id))
        self.promised[place, event.order_id, event.line_id] += event.quantity

    def _place(self, event: object) -> Place:
        place: Place = (event.sku, event.location_id)  # type: ignore[attr-defined]
        self.places.add(place)
        return place


def _id(each: At) -> tuple[str, str]:
    cls = type(each.event)
    return cls.__event_type__, getattr(each.event, cls.__event_id__ or "")


_NOTE: dict[type, Callable[..., None]] = {
    OrderPlaced: Facts.note_placed,
    OrderCancelled: Facts.note_cancelled,
    OrderShipped: Facts.note_shipped,
    ReturnReceived: Facts.note_returned,
    StockReceived: Facts.note_received,
    ItemBackInStock: Facts.note_received,
    InboundExpected: Facts.note_expected,
    StockTransferred: Facts.note_transferred,
    StockAdjusted: Facts.note_adjusted,
    StockCounted: Facts.note_counted,
    StockPolicySet: Facts.note_policy,
    ReservationCreated: Facts.note_reserved,
    ReservationReleased: Facts.note_released,
    ReservationCommitted: Facts.note_committed,
}
