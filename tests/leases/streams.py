"""A model of a stream that is split and merged, for property tests."""

from __future__ import annotations

from random import Random

from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.records import ChildShard, HashKeyRange

KEY_SPACE = 2**128


class Stream:
    """Shards that cover the hash key space, and the history of how they came about."""

    def __init__(self, shards: int) -> None:
        self._time = 0
        self.shards: dict[str, ShardInfo] = {}
        for n in range(shards):
            self._open((), KEY_SPACE * n // shards, KEY_SPACE * (n + 1) // shards - 1)

    @property
    def open(self) -> list[ShardInfo]:
        return [shard for shard in self.shards.values() if shard.is_open]

    def split(self, shard: ShardInfo) -> None:
        low, high = int(shard.starting_hash_key), int(shard.ending_hash_key)
        if high - low < 2:
            return
        self._close(shard)
        middle = (low + high) // 2
        self._open((shard.shard_id,), low, middle)
        self._open((shard.shard_id,), middle + 1, high)

    def merge(self, left: ShardInfo, right: ShardInfo) -> None:
        self._close(left)
        self._close(right)
        low, high = int(left.starting_hash_key), int(right.ending_hash_key)
        self._open((left.shard_id, right.shard_id), low, high)

    def reshard(self, rng: Random) -> None:
        """Split or merge some shard or pair."""
        ordered = sorted(self.open, key=lambda shard: int(shard.starting_hash_key))
        if len(ordered) > 1 and rng.random() < 0.5:
            n = rng.randrange(len(ordered) - 1)
            self.merge(ordered[n], ordered[n + 1])
        else:
            self.split(rng.choice(ordered))

    def listed(self, rng: Random | None = None) -> list[ShardInfo]:
        """List the shards as ListShards might: in no order to rely on."""
        shards = list(self.shards.values())
        if rng is not None:
            rng.shuffle(shards)
        return shards

    def children(self, shard_id: str) -> list[ChildShard]:
        """Return what GetRecords names at the shard's end."""
        return [
            ChildShard(
                child.shard_id,
                list(child.parents),
                HashKeyRange(child.starting_hash_key, child.ending_hash_key),
            )
            for child in self.shards.values()
            if shard_id in child.parents
        ]

    def _open(self, parents: tuple[str, ...], low: int, high: int) -> None:
        self._time += 1
        name = f"shardId-{len(self.shards):012d}"
        self.shards[name] = ShardInfo(
            shard_id=name,
            parents=parents,
            starting_hash_key=str(low),
            ending_hash_key=str(high),
            starting_sequence_number=str(self._time * 10),
            ending_sequence_number=None,
        )

    def _close(self, shard: ShardInfo) -> None:
        self._time += 1
        self.shards[shard.shard_id] = ShardInfo(
            shard_id=shard.shard_id,
            parents=shard.parents,
            starting_hash_key=shard.starting_hash_key,
            ending_hash_key=shard.ending_hash_key,
            starting_sequence_number=shard.starting_sequence_number,
            ending_sequence_number=str(self._time * 10 + 5),
        )
