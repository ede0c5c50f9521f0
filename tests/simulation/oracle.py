"""What must be true of every commit, whatever happened: judged at the server, as it is applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from streamproc.position import Position
from streamproc.state.keys import partition_of_key
from streamproc.state.store import Commit
from streamproc.testing.localkinesis.stream import Stream

__all__ = ["Chain", "Oracle", "Violation"]


class Violation(AssertionError):
    """The fleet did what must never happen."""


class Put(NamedTuple):
    """A record as it was put: its number in the shard's order, and the event in it."""

    sequence: int
    event_id: str
    account: str
    number: int


class Chain(NamedTuple):
    """A shard's commits in one partition."""

    shard: str
    partition: int


class Oracle:
    """Knows what was put, and checks what is adopted and committed.

    Args:
        stream: the stream's true shards.
        digest_prefix: what the engine puts before an event id to digest it.
        partitions: partitions of the group; each shard has a chain in each.
        trace: told of every commit, in order; what two runs of one seed must agree on.
    """

    def __init__(
        self,
        stream: Callable[[], Stream],
        digest_prefix: bytes,
        partitions: int,
        trace: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._prefix = digest_prefix
        self._trace = trace
        self._partitions = partitions
        self._puts: dict[Chain, list[Put]] = {}
        self._read: Counter[Chain] = Counter()
        self._positions: dict[Chain, Position] = {}
        self._epochs: dict[Chain, int] = {}
        self._owners: dict[tuple[Chain, int], str] = {}
        self._last: Counter[str] = Counter()
        self._done: set[str] = set()
        self.deliveries: Counter[str] = Counter()
        self.commits = 0

    # What happens.

    def put(self, shard: str, sequence: str, event_id: str, account: str, number: int) -> None:
        """Note a record that Kinesis accepted."""
        chain = Chain(shard, partition_of_key(account, self._partitions))
        self._puts.setdefault(chain, []).append(Put(int(sequence), event_id, account, number))

    def delivered(self, event_id: str) -> None:
        """Note that a handler was called."""
        self.deliveries[event_id] += 1

    def adopted(self, chain: Chain, epoch: int, position: Position | None, worker: str) -> None:
        """Check that an epoch has one owner, and that epochs only grow."""
        owner = self._owners.setdefault((chain, epoch), worker)
        if owner != worker:
            raise Violation(f"{chain}: epoch {epoch} is used by {owner} and by {worker}")
        if epoch < self._epochs.get(chain, 0):
            raise Violation(f"{chain}: {worker} adopts epoch {epoch} after {self._epochs[chain]}")
        self._epochs[chain] = epoch
        if position is not None:
            self._positions.setdefault(chain, position)

    def committed(self, chain: Chain, commit: Commit, worker: str) -> None:
        """Check a commit that was applied."""
        self.commits += 1
        self._trace(f"{worker} {chain} {commit.start}..{commit.end} {commit.epoch}")
        self._check_owner(chain, commit.epoch, worker)
        if commit.start != self._positions[chain]:
            raise Violation(f"{chain}: commit from {commit.start}, not {self._positions[chain]}")
        self._check_parents(chain.shard)
        fresh = self._pass_to(chain, commit.end)
        digests = [self._digest(put.event_id) for put in fresh]
        if digests != list(commit.digests):
            raise Violation(
                f"{chain}: {worker} commits {len(commit.digests)} events up to {commit.end}, "
                f"where {len(digests)} are due: {[put.event_id for put in fresh]}"
            )
        self._positions[chain] = commit.end
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

    def _check_owner(self, chain: Chain, epoch: int, worker: str) -> None:
        newest = self._epochs.get(chain, 0)
        if epoch != newest:
            raise Violation(f"{chain}: {worker} commits under epoch {epoch}, {newest} is newer")
        if self._owners[chain, epoch] != worker:
            raise Violation(f"{chain}: {worker} commits under {self._owners[chain, epoch]}'s epoch")

    def _check_parents(self, shard: str) -> None:
        truth = self._stream().shards[shard]
        for parent in (truth.parent, truth.adjacent_parent):
            if parent is None:
                continue
            chains = [Chain(parent, partition) for partition in range(self._partitions)]
            left = sum(len(self._puts.get(chain, ())) - self._read[chain] for chain in chains)
            if left or self._stream().shards[parent].is_open:
                raise Violation(f"{shard} is read while {left} records of {parent} are not")

    def _pass_to(self, chain: Chain, end: Position) -> list[Put]:
        """Move a chain's place to `end`; return its events that were not committed before."""
        puts, at, fresh = self._puts.get(chain, []), self._read[chain], []
        while at < len(puts) and puts[at].sequence <= int(end.sequence):
            put = puts[at]
            at += 1
            if put.event_id in self._done:
                continue
            if put.number != self._last[put.account] + 1:
                raise Violation(
                    f"{chain}: {put.account} number {put.number} after {self._last[put.account]}"
                )
            self._last[put.account] = put.number
            self._done.add(put.event_id)
            fresh.append(put)
        self._read[chain] = at
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
