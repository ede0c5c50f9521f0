"""One stream: its shards, its state, and how it is resharded. No IO and no clock of its own."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from streamproc.testing.localkinesis import limits, routing
from streamproc.testing.localkinesis.consumer import Consumer
from streamproc.testing.localkinesis.shard import Shard


class StreamStatus(StrEnum):
    """States of a stream ("StreamDescription" page)."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    DELETING = "DELETING"


class _Transition(NamedTuple):
    due_ms: int
    apply: Callable[[int], None]


def _start_hash(shard: Shard) -> int:
    return shard.start_hash


class Stream:
    """Shards by id, and the open ones by hash range.

    Invariant: the open shards of a settled stream cover 0 .. 2^128-1 without gap or overlap.
    `next_epoch` maps a time in ms to an epoch above every earlier one (see `sequence`).
    """

    def __init__(
        self,
        *,
        name: str,
        arn: str,
        created_ms: int,
        incarnation: int,
        next_epoch: Callable[[int], int],
        on_demand: bool = False,
        record_max_bytes: int = limits.RECORD_MAX_BYTES,
    ) -> None:
        self.name = name
        self.arn = arn
        self.created_ms = created_ms
        self.incarnation = incarnation
        self.on_demand = on_demand
        self.record_max_bytes = record_max_bytes
        self.retention_hours = limits.RETENTION_MIN_HOURS
        self.status = StreamStatus.CREATING
        self.shards: dict[str, Shard] = {}
        self.consumers: dict[str, Consumer] = {}
        self._next_epoch = next_epoch
        self._open: list[Shard] = []
        self._starts: list[int] = []
        self._closed: deque[Shard] = deque()
        self._made = 0
        self._transition: _Transition | None = None

    # State

    def begin(self, status: StreamStatus, due_ms: int, apply: Callable[[int], None]) -> None:
        """Enter `status` and run `apply` with the due time once the clock gets there."""
        self.status = status
        self._transition = _Transition(due_ms, apply)

    def settle(self, now_ms: int) -> None:
        """Finish a due transition, and drop closed shards whose records have all expired."""
        transition = self._transition
        if transition is not None and now_ms >= transition.due_ms:
            self._transition = None
            self.status = StreamStatus.ACTIVE
            transition.apply(transition.due_ms)
        horizon = self.horizon_ms(now_ms)
        while self._closed and (self._closed[0].closed_ms or 0) < horizon:
            del self.shards[self._closed.popleft().id]

    def horizon_ms(self, now_ms: int) -> int:
        """Return the trim horizon: records that arrived earlier are gone."""
        return now_ms - self.retention_hours * limits.HOUR_MS

    # Shards

    @property
    def open_shards(self) -> list[Shard]:
        """Open shards in the order of their hash ranges."""
        return list(self._open)

    @property
    def open_count(self) -> int:
        """Number of open shards."""
        return len(self._open)

    def route(self, hash_key: int) -> Shard:
        """Return the open shard whose range holds `hash_key`."""
        return self._open[bisect_right(self._starts, hash_key) - 1]

    def add_initial_shards(self, count: int, now_ms: int) -> None:
        """Cover the hash range by `count` shards of equal width."""
        for start, end in routing.uniform_bounds(count):
            self._add(start, end, now_ms, ())

    def split(self, shard: Shard, new_start: int, now_ms: int) -> None:
        """Close `shard` and open two children that meet at `new_start`."""
        self._close((shard,), now_ms)
        self._add(shard.start_hash, new_start - 1, now_ms, (shard,))
        self._add(new_start, shard.end_hash, now_ms, (shard,))

    def merge(self, shard: Shard, adjacent: Shard, now_ms: int) -> None:
        """Close `shard` and the one right above it, and open the child that covers both."""
        self._close((shard, adjacent), now_ms)
        self._add(shard.start_hash, adjacent.end_hash, now_ms, (shard, adjacent))

    def resize(self, count: int, now_ms: int) -> None:
        """Reach `count` shards of equal width by splits and merges, as UNIFORM_SCALING does.

        When one count does not divide the other, shards in between are opened and closed at once.
        """
        bounds = routing.uniform_bounds(count)
        for start, _ in bounds:
            holder = self.route(start)
            if holder.start_hash != start:
                self.split(holder, start, now_ms)
        for start, end in bounds:
            while self.route(start).end_hash != end:
                left = self.route(start)
                self.merge(left, self.route(left.end_hash + 1), now_ms)

    def children(self, shard: Shard) -> Iterable[Shard]:
        """Yield the shards that `shard` was split or merged into."""
        return (self.shards[child] for child in shard.child_ids if child in self.shards)

    def at_trim_horizon(self) -> list[Shard]:
        """Return the shards that were open at the trim horizon: the oldest cover still held.

        Decided by lineage, not by time: shards of a stream that was resharded within one tick of
        the clock are told apart all the same.
        """
        return [
            shard
            for shard in self.shards.values()
            if shard.parent not in self.shards and shard.adjacent_parent not in self.shards
        ]

    def _add(self, start: int, end: int, now_ms: int, parents: tuple[Shard, ...]) -> None:
        shard = Shard(
            index=self._made,
            start_hash=start,
            end_hash=end,
            epoch=self._next_epoch(now_ms),
            created_ms=now_ms,
            parent=parents[0].id if parents else None,
            adjacent_parent=parents[1].id if len(parents) > 1 else None,
        )
        self._made += 1
        self.shards[shard.id] = shard
        for parent in parents:
            parent.child_ids.append(shard.id)
        insort(self._open, shard, key=_start_hash)
        insort(self._starts, start)

    def _close(self, shards: tuple[Shard, ...], now_ms: int) -> None:
        for shard in shards:
            # Arrival times do not decrease within a shard, and it cannot close before its last.
            shard.closed_ms = shard.next_arrival(now_ms)
            self._closed.append(shard)
            at = self._open.index(shard)
            del self._open[at], self._starts[at]
