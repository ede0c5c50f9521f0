"""A lease, what may happen to it, and the protocol of the stores that keep it.

A store knows four operations, each atomic; every rule about *what* may be written is a pure
function here. All writers compare and set on (`counter`, `owner`, `checkpoint_owner`), so two
workers that both believe they own a shard cannot both write.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from streamproc.kinesis.records import HashKeyRange
from streamproc.position import SHARD_END, Position

__all__ = [
    "BulkLeaseStore",
    "Lease",
    "LeaseStore",
    "asked_to_hand_over",
    "checkpointed",
    "ended",
    "released",
    "renewed",
    "taken",
]


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One shard's row; the field names follow KCL's attributes.

    Invariants: `counter` grows with every write except a hand-over request; `checkpoint` never
    decreases, except when an operator resets it or Redis turned out to have lost newer commits.

    Attributes:
        key: the lease key: the shard id (single stream).
        owner: the worker that holds the lease or, during a hand-over, is to get it.
        counter: optimistic-lock version and heartbeat; an owner's epoch is its counter when taken.
        checkpoint: resume hint: every record up to it is committed.
        checkpoint_owner: the worker still processing while `owner` waits for the hand-over.
        owner_switches: owner changes since the last checkpoint.
        parents: shard ids of the parents (two after a merge).
        children: shard ids of the children, known once the shard ended.
        starting_hash_key: first hash key of the shard, inclusive, decimal.
        ending_hash_key: last hash key of the shard, inclusive, decimal.
        incarnation: id of the Redis that holds the state this checkpoint speaks of.
        stream_created: when the stream whose shard this is was created, in whole seconds since the
            epoch; tells a stream that was deleted and created again from the one it was. None on
            rows that another consumer such as KCL wrote.
    """

    key: str
    owner: str | None = None
    counter: int = 0
    checkpoint: Position
    checkpoint_owner: str | None = None
    owner_switches: int = 0
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    starting_hash_key: str | None = None
    ending_hash_key: str | None = None
    incarnation: str | None = None
    stream_created: int | None = None

    @property
    def hash_range(self) -> HashKeyRange | None:
        """The shard's share of the hash key space; None for a lease that was made without."""
        if self.starting_hash_key is None or self.ending_hash_key is None:
            return None
        return HashKeyRange(self.starting_hash_key, self.ending_hash_key)

    @property
    def processor(self) -> str | None:
        """The worker that may process the shard now: KCL's `actualOwner`."""
        return self.checkpoint_owner or self.owner

    @property
    def is_finished(self) -> bool:
        """Whether the shard is closed and fully processed."""
        return self.checkpoint.is_end


class LeaseStore(Protocol):
    """Keeps leases. Every write is compare-and-set on counter, owner and checkpoint owner.

    All methods raise `LeaseStoreError` when the store cannot be reached or refuses; the write may
    or may not have been applied then, and the caller reads the row again before it decides.
    """

    async def list(self) -> list[Lease]:
        """Return every lease; rows that are no leases are passed over."""
        ...

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already (which is then left alone)."""
        ...

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Write `new` iff the stored row still has `old`'s counter, owner and checkpoint owner.

        Returns `new` when it was written, else the row as it is stored now; None when there is no
        such row (it is not recreated).
        """
        ...

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it still matches `old` as in `replace`; True when it is gone."""
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...


@runtime_checkable
class BulkLeaseStore(LeaseStore, Protocol):
    """A store that takes many writes in one round trip: a thousand leases are renewed by a few."""

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        """Do for each pair of `old` and `new` what `replace` does, and answer as it does.

        Each is a compare-and-set of its own: some may be refused and others written. After a
        `LeaseStoreError` any of them may have been applied.
        """
        ...


def taken(lease: Lease, by: str) -> Lease:
    """Return the lease as its new owner writes it; ends a hand-over by force if one is pending."""
    switched = lease.owner is not None and lease.owner != by
    return msgspec.structs.replace(
        lease,
        owner=by,
        checkpoint_owner=None,
        counter=lease.counter + 1,
        owner_switches=lease.owner_switches + switched,
    )


def renewed(lease: Lease, at_least: int = 0) -> Lease:
    """Return the lease with its heartbeat moved, past `at_least` where an epoch must be outrun."""
    return msgspec.structs.replace(lease, counter=max(lease.counter + 1, at_least))


def checkpointed(lease: Lease, position: Position, incarnation: str | None) -> Lease:
    """Return the lease at `position`; a checkpoint counts as a renewal, as in KCL."""
    return msgspec.structs.replace(
        lease,
        checkpoint=position,
        incarnation=incarnation or lease.incarnation,
        counter=lease.counter + 1,
        owner_switches=0,
    )


def ended(lease: Lease, children: tuple[str, ...]) -> Lease:
    """Return the lease of a shard that is closed and fully processed."""
    return msgspec.structs.replace(
        lease, checkpoint=SHARD_END, children=children, counter=lease.counter + 1, owner_switches=0
    )


def released(lease: Lease) -> Lease:
    """Return the lease as its processor lets go of it: to the waiting owner, or to nobody."""
    owner = lease.owner if lease.checkpoint_owner is not None else None
    return msgspec.structs.replace(
        lease, owner=owner, checkpoint_owner=None, counter=lease.counter + 1
    )


def asked_to_hand_over(lease: Lease, to: str) -> Lease:
    """Return the lease as `to` asks for it; the counter stays, so renewals are not disturbed."""
    return msgspec.structs.replace(lease, owner=to, checkpoint_owner=lease.owner)
