"""What must be true of every commit, whatever happened: judged at the server, as it is applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from streamproc.position import Position
from streamproc.state.store import Commit
from streamproc.testing.localkinesis.stream import Stream

__all__ = ["Oracle", "Violation"]


class Violation(AssertionError):
    """The fleet did what must never happen."""


class Put(NamedTuple):
    """A record as it was put: its number in the shard's order, and the event in it."""

    sequence: int
    event_id: str
    account: str
    number: int


class Oracle:
    """Knows what was put, and checks what is adopted and committed.

    Args:
        stream: the stream's true shards.
        digest_prefix: what the engine puts before an event id to digest it.
        trace: told of every commit, in order; what two runs of one seed must agree on.
    """

    def __init__(
        self, stream: Callable[[], Stream], digest_prefix: bytes, trace: Callable[[str], None]
    ) -> None:
        self._stream = stream
        self._prefix = digest_prefix
        self._trace = trace
        self._puts: dict[str, list[Put]] = {}
        self._read: Counter[str] = Counter()
        self._positions: dict[str, Position] = {}
        self._epochs: dict[str, int] = {}
        self._owners: dict[tuple[str, int], str] = {}
        self._last: Counter[str] = Counter()
        self._done: set[str] = set()
        self.deliveries: Counter[str] = Counter()
        self.commits = 0

    # What happens.

    def put(self, shard: str, sequence: str, event_id: str, account: str, number: int) -> None:
        """Note a record that Kinesis accepted."""
        self._puts.setdefault(shard, []).append(Put(int(sequence), event_id, account, number))

    def delivered(self, event_id: str) -> None:
        """Note that a handler was called."""
        self.deliveries[event_id] += 1

    def adopted(self, field: str, epoch: int, position: Position | None, worker: str) -> None:
        """Check that an epoch has one owner, and that epochs only grow."""
        owner = self._owners.setdefault((field, epoch), worker)
        if owner != worker:
            raise Violation(f"{field}: epoch {epoch} is used by {owner} and by {worker}")
        if epoch < self._epochs.get(field, 0):
            raise Violation(f"{field}: {worker} adopts epoch {epoch} after {self._epochs[field]}")
        self._epochs[field] = epoch
        if position is not None:
            self._positions.setdefault(field, position)

    def committed(self, commit: Commit, worker: str) -> None:
        """Check a commit that was applied."""
        field, shard = commit.shard, commit.shard.partition("/")[2]
        self.commits += 1
        self._trace(f"{worker} {shard} {commit.start}..{commit.end} {commit.epoch}")
        self._check_owner(field, commit.epoch, worker)
        if commit.start != self._positions[field]:
            raise Violation(f"{field}: commit from {commit.start}, not {self._positions[field]}")
        self._check_parents(shard)
        fresh = self._pass_to(shard, commit.end)
        digests = [self._digest(put.event_id) for put in fresh]
        if digests != list(commit.digests):
            raise Violation(
                f"{field}: {worker} commits {len(commit.digests)} events up to {commit.end}, "
                f"where {len(digests)} are due: {[put.event_id for put in fresh]}"
            )
        self._positions[field] = commit.end
        self._check_states(commit)

    # At the end.

    def unread(self) -> list[str]:
        """Return the ids of events that were put and not committed."""
        return [
            put.event_id
            for puts in self._puts.values()
            for put in puts
            if put.event_id not in self._done
        ]

    def delivered_again(self) -> list[str]:
        """Return the ids of events that handlers saw more than once."""
        return [event_id for event_id, count in self.deliveries.items() if count > 1]

    # Inside.

    def _check_owner(self, field: str, epoch: int, worker: str) -> None:
        newest = self._epochs.get(field, 0)
        if epoch != newest:
            raise Violation(f"{field}: {worker} commits under epoch {epoch}, {newest} is newer")
        if self._owners[field, epoch] != worker:
            raise Violation(f"{field}: {worker} commits under {self._owners[field, epoch]}'s epoch")

    def _check_parents(self, shard: str) -> None:
        truth = self._stream().shards[shard]
        for parent in (truth.parent, truth.adjacent_parent):
            if parent is None:
                continue
            left = len(self._puts.get(parent, ())) - self._read[parent]
            if left or self._stream().shards[parent].is_open:
                raise Violation(f"{shard} is read while {left} records of {parent} are not")

    def _pass_to(self, shard: str, end: Position) -> list[Put]:
        """Move a shard's place to `end`; return its events that were not committed before."""
        puts, fresh = self._puts.get(shard, []), []
        while self._read[shard] < len(puts) and puts[self._read[shard]].sequence <= int(
            end.sequence
        ):
            put = puts[self._read[shard]]
            self._read[shard] += 1
            if put.event_id in self._done:
                continue
            if put.number != self._last[put.account] + 1:
                raise Violation(
                    f"{shard}: {put.account} number {put.number} after {self._last[put.account]}"
                )
            self._last[put.account] = put.number
            self._done.add(put.event_id)
            fresh.append(put)
        return fresh

    def _check_states(self, commit: Commit) -> None:
        for cell, value in commit.cells:
            if value is None:
                continue
            account = cell.key.rpartition(":")[2]
            state = msgspec.json.decode(value)
            if (state["last"], state["count"]) != (self._last[account], self._last[account]):
                raise Violation(f"{account}: state {state}, but it is at {self._last[account]}")

    def _digest(self, event_id: str) -> bytes:
        return blake2b(self._prefix + event_id.encode(), digest_size=16).digest()
