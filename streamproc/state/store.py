"""The seam between a pipeline and what keeps its state: adopt, check, commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

import msgspec

from streamproc.position import Position
from streamproc.state.cell import StateCell
from streamproc.state.commit import Commit
from streamproc.state.counters import CounterCell
from streamproc.state.parking import Parked, Queue, Wanted
from streamproc.state.timers import Clock, Timer, TimerState

__all__ = ["Adopted", "Checked", "Commit", "CommitResult", "StateStore"]


class Adopted(msgspec.Struct, frozen=True):
    """What a new owner of a shard finds: its committed position, if any, and its timers.

    `incarnation` is the store's id.
    """

    position: Position | None
    incarnation: str
    timers: TimerState = TimerState()


class Checked(msgspec.Struct, frozen=True):
    """What a check tells.

    Attributes:
        bucket: the dedupe bucket that marks go to.
        committed: indexes of the ids that are committed already.
        parked: the partition keys that are parked.
        outbox: number of events in the outbox.
    """

    bucket: int
    committed: set[int]
    parked: Parked
    outbox: int


class CommitResult(msgspec.Struct, frozen=True):
    """How a commit ended.

    `refused` holds indexes into `Commit.digests` (DUPLICATE) or `Commit.cells` (CONFLICT);
    `position` is the stored one (MOVED), None when the shard has none. `timers` is what became of
    the shard's timers when the commit was about them. PARKING means that keys were parked or are
    not any more, as `parked` tells, or that the redriven key has another number of records, which
    is `waiting`.
    """

    outcome: Literal["OK", "MOVED", "PARKING", "DUPLICATE", "CONFLICT"]
    refused: tuple[int, ...] = ()
    position: Position | None = None
    timers: TimerState | None = None
    parked: Parked | None = None
    waiting: int = 0


class StateStore(Protocol):
    """Keeps positions, dedupe marks, states, timers, outbox and dead letters of one partition.

    Every method raises `StateStoreError` when the store cannot answer; a commit may have been
    applied then. Repeating the same commit tells: it is `MOVED` to its own `end`.
    """

    async def adopt(self, shard: str, epoch: int, start: Position | None) -> Adopted:
        """Fence off older owners of `shard`; begin its chain at `start` where it has none.

        Raises:
            Fenced: a newer epoch has adopted the shard.
        """
        ...

    async def check(
        self,
        digests: Sequence[bytes],
        cells: Sequence[StateCell],
        counters: Sequence[CounterCell] = (),
    ) -> Checked:
        """Bring states and counters up to date; tell which ids are committed, what is parked."""
        ...

    def bucket(self) -> int:
        """Return the dedupe bucket, by the store's clock as far as it is known here."""
        ...

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit`, or nothing; tell its cells when it was applied.

        Raises:
            Fenced: a newer epoch has adopted the shard.
        """
        ...

    async def positioned_shards(self, stream: str) -> set[str]:
        """Return the shards of a stream that have a committed position."""
        ...

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        """Drop the positions of shards that nobody can read any more; not timers, if any wait."""
        ...

    async def due_timers(
        self, shard: str, clock: Clock, until: int, limit: int
    ) -> tuple[list[Timer], TimerState]:
        """Return at most `limit` timers due until then, in ms, and what there is beside them."""
        ...

    async def inherit_timers(self, parent: str, child: str, low: str, high: str) -> int:
        """Move a finished shard's timers whose hash keys a child covers to it; return how many.

        `low` and `high` are the ends of the child's range, inclusive, as 32 hex digits.
        """
        ...

    def now_ms(self) -> int:
        """Return the time by the store's clock, as far as it is known here, in ms."""
        ...

    async def queue(self, partition_key: str, most: int) -> Queue:
        """Return the oldest records that are parked under a key, at most so many."""
        ...

    async def wanted(self, most: int) -> Wanted:
        """Return parked keys that somebody wants redriven, at most so many, in any order."""
        ...

    async def forget_wanted(self, partition_key: str) -> None:
        """Take a key off those that are wanted: nothing is parked there."""
        ...

    async def outbox_size(self) -> int:
        """Return the number of events in the outbox."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
