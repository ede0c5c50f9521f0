"""A stream's shards with their leases, and who descends from whom: for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.assignment import startable
from streamproc.leases.lease import Lease
from streamproc.leases.shard_audit import HASH_KEYS

__all__ = ["Branch", "ShardState", "ShardView", "shard_views", "trunks"]

ShardState = Literal[
    "finished", "held", "handing over", "free", "waiting for parents", "no lease", "trimmed"
]


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """A shard and its lease.

    Attributes:
        shard_id: the shard.
        parents: ids of its parents.
        is_open: whether producers can still write to it; None when Kinesis does not list it.
        state: what becomes of it in this group.
        owner: the worker that processes it, as the lease has it.
        next_owner: the worker that waits for it during a hand-over.
        checkpoint: the lease's checkpoint; None without a lease.
        share: its part of the hash key space, 0 to 1.
    """

    shard_id: str
    parents: tuple[str, ...]
    is_open: bool | None
    state: ShardState
    owner: str | None = None
    next_owner: str | None = None
    checkpoint: str | None = None
    share: float | None = None


class Branch(msgspec.Struct, frozen=True):
    """A shard in a drawn tree; `elsewhere` when its descendants are drawn at another parent."""

    view: ShardView
    branches: list[Branch]
    elsewhere: bool = False


def shard_views(shards: Iterable[ShardInfo], leases: Mapping[str, Lease]) -> list[ShardView]:
    """Return all shards that Kinesis lists or a lease names, oldest first."""
    listed = {shard.shard_id: shard for shard in shards}
    return [
        _view(key, listed.get(key), leases.get(key), leases)
        for key in sorted(listed.keys() | leases.keys())
    ]


def trunks(views: Sequence[ShardView]) -> list[Branch]:
    """Return the trees: roots are shards without a known parent; a merge hangs at its first."""
    known = {view.shard_id for view in views}
    children: dict[str, list[ShardView]] = {}
    for view in views:
        for parent in view.parents:
            children.setdefault(parent, []).append(view)

    def grow(view: ShardView, below: str | None) -> Branch:
        first = next((parent for parent in view.parents if parent in known), None)
        if below is not None and first != below:
            return Branch(view, [], elsewhere=True)
        branches = [grow(child, view.shard_id) for child in children.get(view.shard_id, ())]
        return Branch(view, branches)

    return [grow(view, None) for view in views if not known.intersection(view.parents)]


def _view(
    key: str, shard: ShardInfo | None, lease: Lease | None, leases: Mapping[str, Lease]
) -> ShardView:
    low, high = _range(shard, lease)
    return ShardView(
        shard_id=key,
        parents=shard.parents if shard is not None else (() if lease is None else lease.parents),
        is_open=None if shard is None else shard.is_open,
        state=_state(shard, lease, leases),
        owner=None if lease is None or lease.is_finished else lease.processor,
        next_owner=None if lease is None or lease.checkpoint_owner is None else lease.owner,
        checkpoint=None if lease is None else str(lease.checkpoint),
        share=None if low is None or high is None else (int(high) - int(low) + 1) / HASH_KEYS,
    )


def _range(shard: ShardInfo | None, lease: Lease | None) -> tuple[str | None, str | None]:
    if shard is not None:
        return shard.starting_hash_key, shard.ending_hash_key
    return (None, None) if lease is None else (lease.starting_hash_key, lease.ending_hash_key)


def _state(shard: ShardInfo | None, lease: Lease | None, leases: Mapping[str, Lease]) -> ShardState:
    if lease is None:
        return "no lease"
    if lease.is_finished:
        return "finished"
    if shard is None:
        return "trimmed"
    if lease.checkpoint_owner is not None:
        return "handing over"
    if lease.owner is not None:
        return "held"
    return "free" if startable(lease, leases) else "waiting for parents"
