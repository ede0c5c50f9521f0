"""Where a shard's new owner begins: what Redis says, unless Redis is not the one it was."""

from __future__ import annotations

from typing import Literal

from streamproc.errors import StateLost
from streamproc.leases.lease import Lease
from streamproc.position import TRIM_HORIZON, Position
from streamproc.state.store import Adopted

__all__ = ["resume_position"]


def resume_position(
    lease: Lease, adopted: Adopted, on_state_loss: Literal["halt", "replay", "continue"]
) -> Position:
    """Return where to read on.

    Redis's position is the truth for the state in Redis; the lease's checkpoint is a hint that
    lags behind it. Without a position in Redis the shard is new to this group, comes from another
    consumer such as KCL (no incarnation noted beside the checkpoint), or its state is lost.

    Raises:
        StateLost: Redis has no position although one was checkpointed, and the setting is `halt`.
    """
    if adopted.position is not None:
        return adopted.position
    if lease.checkpoint.is_start or lease.incarnation is None or on_state_loss == "continue":
        return lease.checkpoint
    if on_state_loss == "replay":
        return TRIM_HORIZON
    raise StateLost(
        f"shard {lease.key} was checkpointed at {lease.checkpoint}, but Redis holds no position "
        f"for it: its data is gone or this is another server (its id is {adopted.incarnation}, the "
        f"checkpoint's was {lease.incarnation}). Point redis.url at the right server or restore "
        "it; or set worker.on_state_loss to 'replay' (read everything again into the empty state) "
        "or 'continue' (go on at the checkpoint with empty state)"
    )
