"""A record as Kinesis returns it."""

from __future__ import annotations

import msgspec

__all__ = ["ChildShard", "HashKeyRange", "Record"]


class Record(msgspec.Struct, rename="pascal", frozen=True, gc=False):
    """One Kinesis record, decoded straight from a GetRecords body (API: GetRecords, Record).

    `approximate_arrival_timestamp` is in seconds since the epoch with millisecond precision.
    """

    sequence_number: str
    approximate_arrival_timestamp: float
    data: bytes
    partition_key: str


class HashKeyRange(msgspec.Struct, rename="pascal", frozen=True):
    """A shard's share of the 128-bit hash key space; both ends are inclusive decimals."""

    starting_hash_key: str
    ending_hash_key: str


class ChildShard(msgspec.Struct, rename="pascal", frozen=True):
    """A successor that GetRecords names at the end of a closed shard (API: ChildShard)."""

    shard_id: str
    parent_shards: list[str]
    hash_key_range: HashKeyRange
