"""Which shards a command moves, and where to: plans to show before anything is done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from streamproc.admin.group import Group
from streamproc.admin.moves import Move, Probe, distance, probe
from streamproc.errors import ConfigError, StreamError
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease
from streamproc.position import SHARD_END, TRIM_HORIZON, Position, least_position
from streamproc.state.places import Place

__all__ = [
    "Exported",
    "ExportedShard",
    "export",
    "plan_all",
    "plan_import",
    "plan_shards",
    "present_place",
]


class ExportedShard(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's place in a file.

    Attributes:
        shard: the shard.
        checkpoint: the lease's checkpoint.
        positions: Redis's positions, of one partition after the other; None where there is none.
    """

    shard: str
    checkpoint: str
    positions: list[str | None]


class Exported(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group's place in its stream, as a file holds it."""

    group: str
    stream: str
    stream_created: int
    partitions: int
    shards: list[ExportedShard]


async def plan_shards(group: Group, shards: Collection[str], target: Position) -> list[Move]:
    """Plan to move some shards to one position.

    Raises:
        ConfigError: there is no lease of one, or it is finished.
    """
    rows, positions = await group.rows(), await group.positions()
    for shard in shards:
        row = rows.get(shard)
        if row is None:
            raise ConfigError(
                f"there is no lease of {shard}; `streamproc checkpoints show` lists them"
            )
        if row.is_finished:
            raise ConfigError(
                f"{shard} is finished and its children are being read: moved alone it would be "
                "read after them. Move the whole group with --all, which keeps the order"
            )
    moves = [_move(group, rows[shard], positions, target) for shard in shards]
    return [await _estimated(group, move) for move in moves]


async def plan_all(group: Group, target: Position) -> list[Move]:
    """Plan to move the whole group to one position, through all reshards.

    Shards that were open then go there; what came after them begins at its horizon once they are
    read, and what was closed before counts as finished.
    """
    rows, positions = await group.rows(), await group.positions()
    shards = {shard.shard_id: shard for shard in await group.kinesis.list_shards()}
    created = int((await group.kinesis.describe_stream()).creation_timestamp)
    then = {shard.shard_id for shard in await group.kinesis.list_shards(at=target)}
    after = _descendants(shards.values(), then)
    moves = []
    for shard_id, shard in shards.items():
        row = rows.get(shard_id)
        place = target if shard_id in then else TRIM_HORIZON if shard_id in after else SHARD_END
        if row is None and place.is_end:
            continue
        if row is None:
            moves.append(_creation(group, shard, place, created))
        elif not (place.is_end and row.is_finished):
            moves.append(_move(group, row, positions, place))
    return [await _estimated(group, move) for move in moves]


async def plan_import(group: Group, exported: Exported) -> list[Move]:
    """Plan to go to the places that a file holds.

    Raises:
        ConfigError: the file is of another stream or another number of partitions, or names a
            shard that has no lease.
    """
    created = int((await group.kinesis.describe_stream()).creation_timestamp)
    for what, theirs, ours in (
        ("stream", exported.stream, group.stream),
        ("creation time of the stream", exported.stream_created, created),
        ("number of partitions", exported.partitions, len(group.places)),
    ):
        if theirs != ours:
            raise ConfigError(f"the file does not fit: its {what} is {theirs}, here it is {ours}")
    rows, positions = await group.rows(), await group.positions()
    moves = []
    for shard in exported.shards:
        row = rows.get(shard.shard)
        if row is None:
            raise ConfigError(f"the file names {shard.shard}, which has no lease in this group")
        checkpoint = _decoded(shard.checkpoint)
        targets = tuple(
            checkpoint if text is None or checkpoint.is_end else _decoded(text)
            for text in shard.positions
        )
        move = msgspec.structs.replace(_move(group, row, positions, checkpoint), targets=targets)
        if not (move.target.is_end and row.is_finished):
            moves.append(await _estimated(group, move))
    return moves


async def export(group: Group) -> Exported:
    """Return the group's place in its stream."""
    rows, positions = await group.rows(), await group.positions()
    summary = await group.kinesis.describe_stream()
    return Exported(
        group=group.config.group,
        stream=group.stream,
        stream_created=int(summary.creation_timestamp),
        partitions=len(group.places),
        shards=[
            ExportedShard(
                shard=key,
                checkpoint=row.checkpoint.encode(),
                positions=[
                    None if place is None or place.position is None else place.position.encode()
                    for place in positions.get(key, (None,) * len(group.places))
                ],
            )
            for key, row in sorted(rows.items())
        ],
    )


def _move(
    group: Group,
    row: Lease,
    positions: Mapping[str, tuple[Place | None, ...]],
    target: Position,
) -> Move:
    return Move(
        shard=row.key,
        lease=row,
        before=row.checkpoint if row.is_finished else present_place(row, positions.get(row.key)),
        targets=(target,) * len(group.places),
    )


def present_place(row: Lease, places: Sequence[Place | None] | None) -> Position:
    """Return where a shard would be read on from: Redis's position, else the checkpoint."""
    known = [
        row.checkpoint if place is None or place.position is None else place.position
        for place in places or (None,)
    ]
    return least_position(known)


def _creation(group: Group, shard: ShardInfo, target: Position, created: int) -> Move:
    row = Lease(
        key=shard.shard_id,
        checkpoint=target,
        parents=tuple(sorted(shard.parents)),
        starting_hash_key=shard.starting_hash_key,
        ending_hash_key=shard.ending_hash_key,
        stream_created=created,
    )
    return Move(
        shard=shard.shard_id,
        lease=row,
        creates=True,
        before=None,
        targets=(target,) * len(group.places),
    )


async def _estimated(group: Group, move: Move) -> Move:
    """Add what lies between the two places; a shard that cannot be read is left without."""
    if move.before is None or (move.before.is_end and move.target.is_end):
        return move
    try:
        before = await _probe(group, move.shard, move.before)
        target = await _probe(group, move.shard, move.target)
    except (KinesisError, StreamError):
        return move
    return msgspec.structs.replace(move, estimate=distance(before, target, time.time()))


async def _probe(group: Group, shard: str, place: Position) -> Probe:
    return Probe([], True) if place.is_end else await probe(group, shard, place)


def _descendants(shards: Iterable[ShardInfo], ancestors: Collection[str]) -> set[str]:
    """Return the shards that come from any of `ancestors`."""
    found: set[str] = set()
    for shard in sorted(shards, key=lambda shard: int(shard.starting_sequence_number)):
        if any(parent in ancestors or parent in found for parent in shard.parents):
            found.add(shard.shard_id)
    return found


def _decoded(text: str) -> Position:
    try:
        return Position.decode(text)
    except ValueError as error:
        raise ConfigError(f"the file holds a position that is none: {error}") from None
