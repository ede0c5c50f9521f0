"""A record as Kinesis returns it."""

from __future__ import annotations

from hashlib import md5

import msgspec

from streamproc.position import Position

__all__ = ["ChildShard", "HashKeyRange", "Record", "hash_key"]


class Record(msgspec.Struct, rename="pascal", frozen=True, gc=False):
    """One Kinesis record, decoded straight from a GetRecords body (API: GetRecords, Record).

    `approximate_arrival_timestamp` is in seconds since the epoch with millisecond precision.
    `sub` is the index inside the KPL aggregate that the record came in; 0 for one that came alone.
    """

    sequence_number: str
    approximate_arrival_timestamp: float
    data: bytes
    partition_key: str
    sub: int = 0

    @property
    def position(self) -> Position:
        """The position that is reached with this record."""
        return Position(self.sequence_number, self.sub)


class HashKeyRange(msgspec.Struct, rename="pascal", frozen=True):
    """A shard's share of the 128-bit hash key space; both ends are inclusive decimals."""

    starting_hash_key: str
    ending_hash_key: str


class ChildShard(msgspec.Struct, rename="pascal", frozen=True):
    """A successor that GetRecords names at the end of a closed shard (API: ChildShard)."""

    shard_id: str
    parent_shards: list[str]
    hash_key_range: HashKeyRange


def hash_key(partition_key: str) -> int:
    """Return where a partition key lies in the hash key space (API: PutRecord, PartitionKey)."""
    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest())
