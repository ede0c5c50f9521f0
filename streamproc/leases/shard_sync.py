"""Which leases to create and which to delete, given the stream's shards: pure functions.

A lease exists for every listed shard that the group is to read, parents before children; which of
them may run is `startable`'s business. The cases are those of KCL's HierarchicalShardSyncer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.records import ChildShard
from streamproc.leases.assignment import startable
from streamproc.leases.lease import Lease
from streamproc.position import LATEST, TRIM_HORIZON, Position

__all__ = [
    "child_leases",
    "children_to_create",
    "finished_leases_to_delete",
    "leases_to_create",
    "startable",
    "trimmed_leases_to_delete",
]


def leases_to_create(
    shards: Iterable[ShardInfo],
    leases: Iterable[Lease],
    initial: Position,
    now: float,
    created: int | None = None,
) -> list[Lease]:
    """Return the missing leases, in the order to create them: parents before children.

    With an empty table the group begins: every listed shard gets a lease at `initial`, for LATEST
    the open ones only. List the shards with the filter that fits (AT_TRIM_HORIZON or none,
    AT_LATEST, AT_TIMESTAMP); a shard that ended before an AT_TIMESTAMP yields no record.

    Otherwise a listed shard without a lease is one of:

    - a descendant of a shard with a lease: begins at TRIM_HORIZON, for the group reads on into it;
    - an ancestor of shards with leases only: was passed and cleaned up long ago, or lies before
      the group's beginning; gets none;
    - any other, unknown to the group: begins at `initial`. For TRIM_HORIZON and AT_TIMESTAMP its
      oldest listed ancestors begin there and it follows; for LATEST it begins there itself if it
      is open, or if a descendant of a known shard waits for it.

    LATEST is written as AT_TIMESTAMP at `now`: a worker that dies before its first record must not
    skip what arrived in between.

    Args:
        shards: the stream's shards as listed.
        leases: every lease of the group.
        initial: where the group begins.
        now: seconds since the epoch.
        created: the stream's creation time for the rows, in whole seconds since the epoch.
    """
    ordered = _parents_first(shards)
    known = {lease.key for lease in leases}
    start = Position("AT_TIMESTAMP", timestamp=now) if initial == LATEST else initial
    if not known:
        chosen = [shard for shard in ordered if initial != LATEST or shard.is_open]
        return [_lease(shard, start, created) for shard in chosen]
    missing = _missing(ordered, known)
    following: set[str] = set()
    for shard in missing:
        if any(parent in known or parent in following for parent in shard.parents):
            following.add(shard.shard_id)
    awaited = {p for shard in missing if shard.shard_id in following for p in shard.parents}
    rows = []
    for shard in missing:
        if shard.shard_id in following:
            rows.append(_lease(shard, TRIM_HORIZON, created))
        elif initial != LATEST or shard.is_open or shard.shard_id in awaited:
            rows.append(_lease(shard, start, created))
    return rows


def child_leases(children: Iterable[ChildShard], created: int | None = None) -> list[Lease]:
    """Return the leases of the children that GetRecords named at a shard's end.

    `created` is the stream's creation time, as the parent's lease has it.
    """
    return [
        Lease(
            key=child.shard_id,
            checkpoint=TRIM_HORIZON,
            parents=tuple(sorted(child.parent_shards)),
            starting_hash_key=child.hash_key_range.starting_hash_key,
            ending_hash_key=child.hash_key_range.ending_hash_key,
            stream_created=created,
        )
        for child in children
    ]


def children_to_create(
    children: Iterable[Lease], parent: str, leases: Iterable[Lease]
) -> list[Lease]:
    """Return the children whose leases the worker that ends `parent` is to create.

    A merge child is left out while its other parent has no lease: that parent's own parent is
    unfinished, and a child beside an absent parent lease would count as startable. Whoever ends
    the other parent finds this one's lease and creates the child. (KCL blocks and retries here.)
    """
    known = {parent, *(lease.key for lease in leases)}
    return [child for child in children if known.issuperset(child.parents)]


def finished_leases_to_delete(leases: Sequence[Lease]) -> list[Lease]:
    """Return the leases that nothing needs any more (KCL: LeaseCleanupManager).

    A lease goes when its shard is finished, every child has a lease that is past its beginning, and
    its own parents' leases are gone. A finished lease without known children stays.
    """
    rows = {lease.key: lease for lease in leases}
    return [
        lease
        for lease in leases
        if lease.is_finished
        and lease.children
        and not any(parent in rows for parent in lease.parents)
        and all(key in rows and not rows[key].checkpoint.is_start for key in lease.children)
    ]


def trimmed_leases_to_delete(
    leases: Collection[Lease], shards: Collection[ShardInfo]
) -> list[Lease]:
    """Return the finished leases of shards that Kinesis no longer lists (KCL: garbage leases).

    One stays while a listed child of it has no lease: that one would no longer count as its
    descendant, and begin elsewhere than at its horizon. An unfinished lease stays, too: whoever
    reads it finds out that the shard is gone, says what was lost, and goes on with its children.
    """
    listed = {shard.shard_id for shard in shards}
    known = {lease.key for lease in leases}
    awaited = {p for shard in shards if shard.shard_id not in known for p in shard.parents}
    return [
        lease
        for lease in leases
        if lease.is_finished and lease.key not in listed and lease.key not in awaited
    ]


def _missing(ordered: Sequence[ShardInfo], known: set[str]) -> list[ShardInfo]:
    """Return the shards without a lease that are open, or lead to such a one without a lease."""
    reached: set[str] = set()
    found = []
    for shard in reversed(ordered):
        if shard.shard_id not in known and (shard.is_open or shard.shard_id in reached):
            reached.update(shard.parents)
            found.append(shard)
    return found[::-1]


def _parents_first(shards: Iterable[ShardInfo]) -> list[ShardInfo]:
    """Sort by starting sequence number: a child's is greater than its parents' last."""
    return sorted(shards, key=lambda shard: (int(shard.starting_sequence_number), shard.shard_id))


def _lease(shard: ShardInfo, checkpoint: Position, created: int | None) -> Lease:
    return Lease(
        key=shard.shard_id,
        checkpoint=checkpoint,
        parents=tuple(sorted(shard.parents)),
        starting_hash_key=shard.starting_hash_key,
        ending_hash_key=shard.ending_hash_key,
        stream_created=created,
    )
