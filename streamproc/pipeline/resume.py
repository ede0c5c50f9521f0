"""Where a shard's new owner begins: what Redis says, unless Redis is not the one it was."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from streamproc.errors import StateLost
from streamproc.position import TRIM_HORIZON, Position
from streamproc.state.store import Adopted

__all__ = ["Known", "OnStateLoss", "incarnation_of", "resume_positions"]

OnStateLoss = Literal["halt", "replay", "continue"]


class Known(msgspec.Struct, frozen=True):
    """What is known of a shard without asking Redis.

    Attributes:
        shard: the shard's id.
        position: its lease's checkpoint, or what its owner has committed since.
        incarnation: id of the Redis in which that was committed; None for a new shard, and for a
            checkpoint that another consumer such as KCL has written.
        met: id of the Redis that this worker has met last, in any of its shards.
    """

    shard: str
    position: Position
    incarnation: str | None = None
    met: str | None = None


def incarnation_of(ids: Sequence[str]) -> str:
    """Return one id for the stores of all partitions, given theirs."""
    return ids[0] if len(ids) == 1 else blake2b("".join(ids).encode(), digest_size=16).hexdigest()


def resume_positions(
    known: Known, adopted: Sequence[Adopted], on_state_loss: OnStateLoss
) -> list[Position]:
    """Return where to read on in each partition, as its store was found.

    A store's position is the truth for the state in that store; what is known beside it only tells
    whether it is the same store. A partition without a position is new, or was read by another
    consumer until now, or has lost its state.

    Raises:
        StateLost: a store is not the one it was, or has lost the shard, and the setting is `halt`.
    """
    found = incarnation_of([each.incarnation for each in adopted])
    is_other = any(before not in (None, found) for before in (known.incarnation, known.met))
    return [_resume(known, each.position, found, is_other, on_state_loss) for each in adopted]


def _resume(
    known: Known, stored: Position | None, found: str, is_other: bool, on_state_loss: OnStateLoss
) -> Position:
    is_new = known.position.is_start or known.incarnation is None
    if not is_other and (stored is not None or is_new):
        return known.position if stored is None else stored
    if on_state_loss == "halt":
        before = known.incarnation or known.met
        held = "no position for it" if stored is None else f"position {stored}"
        raise StateLost(
            f"shard {known.shard} is known to be at {known.position}, in the Redis with id "
            f"{before}; now redis.url leads to the one with id {found}, which holds {held}. "
            "Its data is gone, or this is another server. Point redis.url at the right one or "
            "restore it; or set worker.on_state_loss to 'replay' (rebuild: read again from what "
            "this Redis holds, and everything where it holds nothing) or 'continue' (the same, but "
            "go on at the checkpoint, with empty state, where it holds nothing)"
        )
    if stored is not None:
        return stored  # its own state belongs to that position, whatever became of the other store
    if is_new or on_state_loss == "continue":
        return known.position
    return TRIM_HORIZON
