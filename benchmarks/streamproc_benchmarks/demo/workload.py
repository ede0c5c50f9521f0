"""What is published: a shop's day and payments, some of it twice, and what is no event."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from random import Random
from typing import Final, Literal

import msgspec

from streamproc_benchmarks.demo.happenings import reference_payments, shop_day
from streamproc_benchmarks.demo.poison import poison
from streamproc_inventory.simulation.shop import Happening

__all__ = ["DUPLICATE_EVERY", "POISON_EVERY", "Record", "Workload"]

DUPLICATE_EVERY: Final = 50
"""One record in so many is a duplicate: 2 %."""

POISON_EVERY: Final = 1_000
"""One record in so many is poison: 0.1 %."""

_ORDERS: Final = 0.2  # of all records; with what comes of them, it makes less than half
_LONGEST_DELAY: Final = 3_000  # records between an event and its duplicate


class Record(msgspec.Struct, frozen=True):
    """One record to put; `kind` says what should become of it."""

    data: bytes
    partition_key: str
    kind: Literal["event", "duplicate", "poison"]


class Workload:
    """The records of one run; equal seeds and sizes give equal bytes in equal order.

    Payments are keyed by card, what happens in the shop as its simulator says, each in event-time
    order. A duplicate comes after its event, under the same key: alike to the byte, or, as from a
    producer that starts over, in a new envelope around the same business id.

    Args:
        seed: of all chance but that in the payments, which are those of the reference world.
        size: how many records `records` yields; more if a shop's day does not fit in.

    Attributes:
        books: what the shop has in stock at the end, by its own count.
        frauds: ids of the payments that are frauds.

    Raises:
        ConfigError: NumPy is not installed.
    """

    def __init__(self, seed: int, size: int) -> None:
        # Text, because ints and their negatives seed Random alike.
        self._rng = Random(f"streamproc demo {seed}")
        day = shop_day(seed, max(1, round(size * _ORDERS)))
        self.size = max(size, 2 * len(day.trade))
        self._poisons = ceil(self.size / POISON_EVERY)
        self._duplicates = ceil(self.size / DUPLICATE_EVERY)
        events = self.size - self._poisons - self._duplicates
        payments = reference_payments(events - len(day.trade))
        self.books = day.books
        self.frauds = payments.frauds
        self._opening = day.opening
        self._happenings = self._mixed(day.trade, payments.happenings)
        self._envelopes = 0

    def opening(self) -> list[Record]:
        """Return the deliveries that must be in stock before `records` begin."""
        return [self._event(happening) for happening in self._opening]

    def records(self) -> Iterator[Record]:
        """Yield the records of the run; once, since envelopes are numbered."""
        poisoned = self._spread(self.size, self._poisons)
        repeated = self._spread(len(self._happenings), self._duplicates)
        happenings = enumerate(self._happenings)
        repeats: list[tuple[int, int, Record]] = []
        poisons = 0
        for slot in range(self.size):
            if slot in poisoned:
                key = f"card-{self._rng.randrange(100)}"
                yield Record(poison(poisons, self._rng), key, "poison")
                poisons += 1
            elif repeats and repeats[0][0] <= slot:
                yield heapq.heappop(repeats)[2]
            elif (following := next(happenings, None)) is not None:
                index, happening = following
                record = self._event(happening)
                if index in repeated:
                    due = slot + self._rng.randint(1, _LONGEST_DELAY)
                    heapq.heappush(repeats, (due, index, self._again(happening, record)))
                yield record
            else:  # nothing is left but repeats that were due later
                yield heapq.heappop(repeats)[2]

    def _mixed(self, some: list[Happening], others: list[Happening]) -> list[Happening]:
        """Return all of both, each in its order, evenly mixed."""
        mixed: list[Happening] = []
        one, other = iter(some), iter(others)
        some_left, left = len(some), len(some) + len(others)
        while left:
            is_some = self._rng.random() * left < some_left
            mixed.append(next(one if is_some else other))
            some_left -= is_some
            left -= 1
        return mixed

    def _spread(self, size: int, count: int) -> set[int]:
        """Return one index of each of `count` stretches: a share met closely, not on average."""
        bounds = [size * n // count for n in range(count + 1)]
        return {self._rng.randrange(first, end) for first, end in pairwise(bounds)}

    def _event(self, happening: Happening) -> Record:
        return Record(self._envelope(happening), happening.key, "event")

    def _again(self, happening: Happening, record: Record) -> Record:
        data = record.data if self._rng.random() < 0.5 else self._envelope(happening)
        return Record(data, record.partition_key, "duplicate")

    def _envelope(self, happening: Happening) -> bytes:
        self._envelopes += 1
        kind = type(happening.event)
        return msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": f"msg-{self._envelopes:08}",
                "source": "shop/demo",
                "type": f"{kind.__event_type__}.v{kind.__event_version__}",
                "time": happening.time,
                "datacontenttype": "application/json",
                "data": happening.event,
            }
        )
