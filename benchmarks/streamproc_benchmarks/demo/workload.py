"""What is published: the shop's events, some of them twice, and some records that are no events."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random
from typing import Final, Literal

import msgspec

from streamproc_benchmarks.demo.poison import poison
from streamproc_benchmarks.demo.shop import Happening, Shop

__all__ = ["DUPLICATE_EVERY", "POISON_EVERY", "Record", "Workload"]

DUPLICATE_EVERY: Final = 50
"""One record in so many is a duplicate: 2 %."""

POISON_EVERY: Final = 1_000
"""One record in so many is poison: 0.1 %."""

_LONGEST_DELAY: Final = 3_000  # records between an event and its duplicate


class Record(msgspec.Struct, frozen=True):
    """One record to put; `kind` says what should become of it."""

    data: bytes
    partition_key: str
    kind: Literal["event", "duplicate", "poison"]


class Workload:
    """The records of one run; equal seeds and sizes give equal bytes in equal order.

    Payments are keyed by card, orders by order and stock by SKU, each in event-time order. A
    duplicate comes after its event, under the same key: alike to the byte, or, as from a producer
    that starts over, in a new envelope around the same business id.

    Args:
        seed: of all chance.
        size: how many records `records` yields.
    """

    def __init__(self, seed: int, size: int) -> None:
        self.size = size
        # Text, because ints and their negatives seed Random alike.
        self._rng = Random(f"streamproc demo {seed}")
        self._shop = Shop(self._rng, size)
        self._envelopes = 0

    def opening(self) -> list[Record]:
        """Return the deliveries that must be in stock before `records` begin."""
        return [self._event(happening) for happening in self._shop.opening()]

    def records(self) -> Iterator[Record]:
        """Yield the records of the run; once, since the shop's day does not begin again."""
        poisoned = self._slots(POISON_EVERY)
        repeated = self._slots(DUPLICATE_EVERY)
        repeats: list[tuple[int, int, Record]] = []
        poisons = owed = 0
        for slot in range(self.size):
            owed += slot in repeated
            if slot in poisoned:
                key = f"card-{self._rng.randrange(100):05}"
                yield Record(poison(poisons, self._rng), key, "poison")
                poisons += 1
            elif repeats and repeats[0][0] <= slot:
                yield heapq.heappop(repeats)[2]
            else:
                happening = self._shop.next()
                record = self._event(happening)
                if owed and slot + 1 < self.size:
                    owed -= 1
                    due = self._rng.randint(slot + 1, min(slot + _LONGEST_DELAY, self.size - 1))
                    heapq.heappush(repeats, (due, slot, self._again(happening, record)))
                yield record
        # Two may have been due in the last slot.
        yield from (record for _, _, record in sorted(repeats, key=lambda repeat: repeat[:2]))

    def _slots(self, every: int) -> set[int]:
        """Return one slot of each `every`, so that a share is met closely, not on average."""
        return {
            start + self._rng.randrange(min(every, self.size - start))
            for start in range(0, self.size, every)
        }

    def _event(self, happening: Happening) -> Record:
        return Record(self._envelope(happening), happening.key, "event")

    def _again(self, happening: Happening, record: Record) -> Record:
        data = record.data if self._rng.random() < 0.5 else self._envelope(happening)
        return Record(data, record.partition_key, "duplicate")

    def _envelope(self, happening: Happening) -> bytes:
        self._envelopes += 1
        return msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": f"msg-{self._envelopes:08}",
                "source": "shop/demo",
                "type": happening.type,
                "time": happening.time,
                "datacontenttype": "application/json",
                "data": happening.data,
            }
        )
