"""A stream's shards as ListShards describes them: hash ranges and who descends from whom."""

from __future__ import annotations

import msgspec

__all__ = ["ShardInfo"]


class ShardInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One shard (API: ListShards, Shard).

    Attributes:
        shard_id: the shard's id, such as ``shardId-000000000000``.
        parents: ids of the shards it came from: none, one (split) or two (merge, the adjacent
            parent last). A parent may be trimmed and thus absent from the listing.
        starting_hash_key: first hash key of the shard, inclusive, decimal.
        ending_hash_key: last hash key of the shard, inclusive, decimal.
        starting_sequence_number: the first number the shard can hold, decimal.
        ending_sequence_number: the last number it can hold; None while the shard is open.
    """

    shard_id: str
    parents: tuple[str, ...]
    starting_hash_key: str
    ending_hash_key: str
    starting_sequence_number: str
    ending_sequence_number: str | None

    @property
    def is_open(self) -> bool:
        """Whether producers can still write to the shard."""
        return self.ending_sequence_number is None
