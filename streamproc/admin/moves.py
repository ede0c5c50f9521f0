"""Moving a group's place in its stream: what would be read again, and how it is done safely.

Redis's positions are the truth for the state in Redis; a lease's checkpoint is what workers without
them begin at and other consumers read. A move changes both, under an epoch of its own, so that a
worker that held the shard before can commit nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from streamproc.admin.group import Group
from streamproc.errors import ConfigError, Fenced
from streamproc.kinesis.records import Record
from streamproc.leases.lease import Lease, checkpointed, ended, released, renewed, taken
from streamproc.position import TRIM_HORIZON, Position, least_position

__all__ = [
    "Estimate",
    "Move",
    "Probe",
    "apply_move",
    "distance",
    "forget_group",
    "probe",
    "read_position",
]

_SAMPLE: Final = 1_000
"""Records fetched to estimate a distance from."""

_PAGES: Final = 20
"""Answers without a record that are passed over until one comes."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart two positions of a shard are.

    Attributes:
        records: Kinesis records between them; an aggregate counts as one.
        exact: whether they were counted, or reckoned from a sample's rate.
        seconds: time between their arrivals; None where nothing tells it.
        forward: whether the move passes over records instead of repeating them.
    """

    records: int
    exact: bool
    seconds: float | None = None
    forward: bool = False


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of one shard.

    Attributes:
        shard: the shard.
        lease: its row as it was read, or as it is to be created.
        creates: whether the row is to be created.
        before: where it would go on without the move; None where there is no such place.
        targets: the new position in each partition; SHARD_END ends it, and Redis is left alone.
        estimate: what lies between; None where it cannot be told.
    """

    shard: str
    lease: Lease
    creates: bool = False
    before: Position | None
    targets: tuple[Position, ...]
    estimate: Estimate | None = None

    @property
    def target(self) -> Position:
        """The place furthest behind that reading goes on from."""
        return least_position(self.targets)


def read_position(text: str, now: float | None = None) -> Position:
    """Read what an operator may write: a sentinel, an ISO 8601 time, or a sequence number.

    LATEST becomes the time `now`, in seconds since the epoch, so that what arrives between the
    command and the workers' start is read.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "LATEST":
        return Position("AT_TIMESTAMP", timestamp=time.time() if now is None else now)
    if text == "TRIM_HORIZON":
        return TRIM_HORIZON
    if text.partition(":")[0].isdecimal() and text.replace(":", "", 1).isdecimal():
        return Position.decode(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no position; write TRIM_HORIZON, LATEST, a time such as "
            "2026-01-31T12:00:00Z, or a sequence number"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Position("AT_TIMESTAMP", timestamp=moment.timestamp())


class Probe(msgspec.Struct, frozen=True):
    """What a shard holds from some position on: its next records, and whether those are all."""

    records: list[Record]
    is_all: bool

    @property
    def next(self) -> int | None:
        """The number of the next record; None at the tip."""
        return int(self.records[0].sequence_number) if self.records else None


async def probe(group: Group, shard: str, position: Position) -> Probe:
    """Read the first records after a position.

    Raises:
        KinesisError, StreamError: the shard could not be read.
    """
    iterator = await group.kinesis.shard_iterator(shard, position, inclusive=position.sub > 0)
    for _ in range(_PAGES):
        page = await group.kinesis.get_records(iterator, _SAMPLE)
        done = page.millis_behind_latest == 0 or page.next_shard_iterator is None
        if page.records or done or page.next_shard_iterator is None:
            return Probe(page.records, done)
        iterator = page.next_shard_iterator
    return Probe([], False)


def distance(before: Probe, target: Probe, now: float) -> Estimate:
    """Tell what lies between two places of a shard.

    Args:
        before: what follows the place that it is at.
        target: what follows the place that it is to go to.
        now: seconds since the epoch.
    """
    forward = _is_after(target, before)
    low, high = (before, target) if forward else (target, before)
    between = [r for r in low.records if high.next is None or int(r.sequence_number) < high.next]
    begin, end = _arrival(low, now), _arrival(high, now)
    exact = len(between) < len(low.records) or low.is_all
    count = len(between)
    if not exact:
        span = low.records[-1].approximate_arrival_timestamp - begin if low.records else 0.0
        count = round(count / span * (end - begin)) if span > 0 else count
    return Estimate(records=count, exact=exact, seconds=max(0.0, end - begin), forward=forward)


async def apply_move(group: Group, move: Move) -> bool:
    """Move a shard that nobody works on; False when somebody took its lease meanwhile.

    The lease is taken for a moment, which is what keeps workers out and gives the epoch that fences
    off whoever held it before; Redis comes first, since it is the truth.

    Raises:
        LeaseStoreError: the lease store failed; workers take the lease once it expires, and the
            command can be repeated.
        StateStoreError: Redis failed; the lease is left to expire in the same way.
    """
    if move.creates and not await group.leases.create(move.lease):
        return False
    mine = taken(move.lease, group.operator)
    if await group.leases.replace(move.lease, mine) != mine:
        return False
    if move.target.is_end:
        done = released(ended(mine, mine.children))
        return await group.leases.replace(mine, done) == done
    for places, target in zip(group.places, move.targets, strict=True):
        while True:
            try:
                await places.place(group.stream, move.shard, mine.counter, target)
                break
            except Fenced as fenced:
                raised = renewed(mine, fenced.epoch + 1)
                if await group.leases.replace(mine, raised) != raised:
                    return False
                mine = raised
    done = released(checkpointed(mine, move.target, await group.incarnation()))
    return await group.leases.replace(mine, done) == done


async def forget_group(group: Group, leases: Iterable[Lease]) -> bool:
    """Delete every lease and position: the group begins anew; False when somebody took a lease.

    Leases go first: without a lease a position is read by nobody, and with a lease whose position
    is gone a worker would take Redis's state for lost.

    Raises:
        LeaseStoreError, StateStoreError: a store failed; the command can be repeated.
    """
    for lease in leases:
        if not await group.leases.delete(lease):
            return False
    for places in group.places:
        await places.forget(group.stream, set(await places.read(group.stream)))
    return True


def _is_after(place: Probe, other: Probe) -> bool:
    if other.next is None:
        return False
    return place.next is None or place.next > other.next


def _arrival(place: Probe, now: float) -> float:
    return place.records[0].approximate_arrival_timestamp if place.records else now
