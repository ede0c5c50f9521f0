"""One shard: an append-only log of records, kept in the form in which they are served."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from streamproc.testing.localkinesis import sequence
from streamproc.testing.localkinesis.throttle import ShardThrottle


class Shard:
    """A range of hash keys and its records.

    A record's position is its absolute index in the shard, counted from 0 at the shard's start and
    never reused: trimming moves `first`, not the positions. Arrival times never decrease within a
    shard even when the clock does.
    """

    __slots__ = (
        "_arrivals",
        "_fragments",
        "_head",
        "_totals",
        "_trimmed",
        "adjacent_parent",
        "child_ids",
        "closed_ms",
        "created_ms",
        "end_hash",
        "epoch",
        "id",
        "index",
        "parent",
        "start_hash",
        "throttle",
    )

    def __init__(
        self,
        *,
        index: int,
        start_hash: int,
        end_hash: int,
        epoch: int,
        created_ms: int,
        parent: str | None = None,
        adjacent_parent: str | None = None,
    ) -> None:
        self.index = index
        self.id = f"shardId-{index:012d}"
        self.start_hash = start_hash
        self.end_hash = end_hash
        self.epoch = epoch
        self.created_ms = created_ms
        self.closed_ms: int | None = None
        self.parent = parent
        self.adjacent_parent = adjacent_parent
        self.child_ids: list[str] = []
        self.throttle: ShardThrottle | None = None
        # Parallel columns; entry i of each is the record at position _trimmed + i. Entries before
        # _head are trimmed but not yet deleted.
        self._fragments: list[bytes] = []
        self._arrivals = array("q")
        self._totals = array("Q", [0])  # entry i: payload bytes of all records before entry i
        self._head = 0
        self._trimmed = 0

    @property
    def first(self) -> int:
        """Position of the oldest record still held."""
        return self._trimmed + self._head

    @property
    def tip(self) -> int:
        """Position that the next record will take."""
        return self._trimmed + len(self._fragments)

    @property
    def is_open(self) -> bool:
        """Whether the shard takes records."""
        return self.closed_ms is None

    @property
    def starting_sequence(self) -> int:
        """Number below all of the shard's records."""
        return sequence.encode(self.epoch, 0, self.index)

    @property
    def ending_sequence(self) -> int | None:
        """Number at or above all of a closed shard's records; None while open."""
        if self.closed_ms is None:
            return None
        return sequence.encode(self.epoch, self.tip + 1, self.index)

    def next_sequence(self) -> int:
        """Return the number that the next record will get."""
        return sequence.encode(self.epoch, self.tip + 1, self.index)

    def next_arrival(self, now_ms: int) -> int:
        """Return the arrival time that a record put now will get."""
        return max(now_ms, self._arrivals[-1]) if self._arrivals else now_ms

    def append(self, fragment: bytes, size: int, arrival_ms: int) -> None:
        """Add a record whose sequence number and arrival were taken from the `next_` methods."""
        self._fragments.append(fragment)
        self._arrivals.append(arrival_ms)
        self._totals.append(self._totals[-1] + size)

    def read(self, position: int, limit: int, max_bytes: int) -> list[bytes]:
        """Return fragments from `position` on: at least one if there is one, else up to the limits.

        `position` must not lie before `first`; `max_bytes` bounds data and partition keys.
        """
        low = position - self._trimmed
        high = min(low + limit, len(self._fragments))
        if low >= high:
            return []
        totals = self._totals
        fits = bisect_right(totals, totals[low] + max_bytes, low + 1, high + 1) - 1
        return self._fragments[low : max(fits, low + 1)]

    def bytes_between(self, start: int, stop: int) -> int:
        """Return the payload bytes (data and partition keys) of the records in [start, stop)."""
        return self._totals[stop - self._trimmed] - self._totals[start - self._trimmed]

    def arrival_at(self, position: int) -> int:
        """Return the arrival time in ms of the record at `position`."""
        return self._arrivals[position - self._trimmed]

    def arrivals_between(self, start: int, stop: int) -> Sequence[int]:
        """Return the arrival times in ms of the records in [start, stop)."""
        return self._arrivals[start - self._trimmed : stop - self._trimmed]

    def position_at_time(self, time_ms: int) -> int:
        """Return the position of the first record that arrived at or after `time_ms`."""
        return self._trimmed + bisect_left(self._arrivals, time_ms, self._head)

    def trim(self, horizon_ms: int) -> None:
        """Forget records that arrived before `horizon_ms`."""
        arrivals = self._arrivals
        if self._head >= len(arrivals) or arrivals[self._head] >= horizon_ms:
            return
        self._head = bisect_left(arrivals, horizon_ms, self._head)
        # Deleting moves all that follows: wait until that costs no more than was trimmed.
        if 2 * self._head >= len(arrivals):
            self._compact()

    def _compact(self) -> None:
        head = self._head
        del self._fragments[:head], self._arrivals[:head], self._totals[:head]
        self._trimmed += head
        self._head = 0
