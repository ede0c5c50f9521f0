"""Short ways to make the leases and shards that tests speak of."""

from __future__ import annotations

from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease
from streamproc.position import SHARD_END, TRIM_HORIZON, Position


def lease(
    key: str,
    owner: str | None = None,
    counter: int = 0,
    *,
    checkpoint: Position = TRIM_HORIZON,
    processor: str | None = None,
    parents: tuple[str, ...] = (),
    children: tuple[str, ...] = (),
    starting_hash_key: str | None = None,
    ending_hash_key: str | None = None,
    stream_created: int | None = None,
) -> Lease:
    """Make a lease; `processor` is the checkpoint owner of a pending hand-over."""
    return Lease(
        key=key,
        owner=owner,
        counter=counter,
        checkpoint=checkpoint,
        checkpoint_owner=processor,
        parents=parents,
        children=children,
        starting_hash_key=starting_hash_key,
        ending_hash_key=ending_hash_key,
        stream_created=stream_created,
    )


def finished(key: str, *children: str, parents: tuple[str, ...] = ()) -> Lease:
    """Make the lease of a shard that was read to its end."""
    return lease(key, "anybody", 9, checkpoint=SHARD_END, parents=parents, children=children)


def shard(name: str, *parents: str, time: int, closed: bool = True) -> ShardInfo:
    """Make a shard of a listing; `time` stands for when it was created."""
    return ShardInfo(
        shard_id=name,
        parents=parents,
        starting_hash_key="0",
        ending_hash_key="1",
        starting_sequence_number=str(time),
        ending_sequence_number="9999" if closed else None,
    )
