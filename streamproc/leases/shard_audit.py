"""What is wrong with a lease table, seen against the stream: holes, another stream's leases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease

__all__ = ["CONFIDENCE", "Hole", "HoleWatch", "first_hole", "foreign_leases", "lease_hole"]

HASH_KEYS: Final = 2**128
"""How many hash keys there are; shards cover 0 to one less ("HashKeyRange" page)."""

CONFIDENCE: Final = 3
"""Looks in a row at the same hole after which it is believed (KCL: PeriodicShardSyncManager)."""


class Hole(msgspec.Struct, frozen=True):
    """A range of hash keys, both ends inclusive, that nothing covers."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"hash keys {self.start} to {self.end}"


def first_hole(ranges: Iterable[tuple[int, int]]) -> Hole | None:
    """Return the lowest hash keys that no range covers; ranges are inclusive and may overlap."""
    covered = 0
    for low, high in sorted(ranges):
        if low > covered:
            return Hole(covered, low - 1)
        covered = max(covered, high + 1)
    return None if covered >= HASH_KEYS else Hole(covered, HASH_KEYS - 1)


def lease_hole(leases: Iterable[Lease]) -> Hole | None:
    """Return the lowest hash keys whose records no unfinished lease will ever read.

    While a parent is unfinished its range counts beside its children's, which wait for it. A table
    with a row that has no range, as old KCL versions wrote them, cannot be judged: None.
    """
    ranges = []
    for lease in leases:
        if lease.is_finished:
            continue
        if lease.starting_hash_key is None or lease.ending_hash_key is None:
            return None
        ranges.append((int(lease.starting_hash_key), int(lease.ending_hash_key)))
    return first_hole(ranges)


def foreign_leases(
    leases: Iterable[Lease], shards: Mapping[str, ShardInfo], created: int | None
) -> list[Lease]:
    """Return the leases that speak of another stream of this name, deleted and created again.

    Shard ids are given out anew from 0, so a lease's key does not tell. Its creation time does, and
    so does a checkpoint below the first number that its shard can hold.

    Args:
        leases: every lease of the group.
        shards: the listed shards by id.
        created: when the stream was created, in whole seconds since the epoch; None if unknown.
    """
    return [
        lease
        for lease in leases
        if (created is not None and lease.stream_created not in (None, created))
        or _precedes(lease, shards.get(lease.key))
    ]


def _precedes(lease: Lease, shard: ShardInfo | None) -> bool:
    if shard is None or lease.checkpoint.is_start or lease.checkpoint.is_end:
        return False
    return int(lease.checkpoint.sequence) < int(shard.starting_sequence_number)


class HoleWatch:
    """Believes in a hole once the same one was seen `CONFIDENCE` times in a row.

    A listing and a table are read at different moments, and neither is one moment's truth.
    """

    def __init__(self) -> None:
        self._hole: Hole | None = None
        self._seen = 0

    def see(self, hole: Hole | None) -> bool:
        """Note what was seen; True at the look that makes it certain, and not again after that."""
        self._seen = self._seen + 1 if hole == self._hole else 1
        self._hole = hole
        return hole is not None and self._seen == CONFIDENCE
