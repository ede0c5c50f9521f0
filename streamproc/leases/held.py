"""A lease this worker holds, and what the store's answer to a write says about it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable

from streamproc.leases.lease import Lease

__all__ = ["HeldLease", "Verdict", "judge"]


class Verdict(enum.Enum):
    """What became of a write to a lease that I hold."""

    WRITTEN = "written"
    """The row is what I wrote."""

    STILL_MINE = "still mine"
    """An earlier write of mine, whose answer was lost, had landed: take the row as the base."""

    ASKED = "asked to hand over"
    """Another worker asked for the lease; it stays mine until I release it."""

    LOST = "lost"
    """Somebody else has it, or the row is gone."""


def judge(
    row: Lease | None, wrote: Lease, base: Lease, unconfirmed: Iterable[Lease], me: str
) -> Verdict:
    """Interpret the row that `LeaseStore.replace` returned.

    The decision is KCL's (DynamoDBLeaseRefresher.renewLease, handleGracefulShutdown). A row counts
    as mine only with a counter that I wrote or saw myself; whatever else happened to the row, a
    take by another worker included, moved the counter past those.

    Args:
        row: the answer: what was written, or the row as it is stored now.
        wrote: what I asked the store to write.
        base: the row as I knew it, whose version the write was conditioned on.
        unconfirmed: earlier writes whose answers were lost.
        me: my worker id.
    """
    if row is None:
        return Verdict.LOST
    if row == wrote:
        return Verdict.WRITTEN
    known = {base.counter, *(lease.counter for lease in unconfirmed)}
    # An owner that equals the checkpoint owner is no hand-over that anybody of ours began.
    if row.processor != me or row.counter not in known or row.checkpoint_owner == row.owner:
        return Verdict.LOST
    return Verdict.STILL_MINE if row.checkpoint_owner is None else Verdict.ASKED


class HeldLease:
    """The coordinator's record of one lease between taking it and losing it.

    Invariant: `written_at` never exceeds the time at which a successful write was *sent*, so the
    lease is valid by every clock for the lease duration after it.

    Attributes:
        lease: the row as last written or read by this worker.
        epoch: the counter the engine was told of: at acquisition, or after an outrun.
        written_at: monotonic seconds at which the last successful write was sent.
        unconfirmed: writes that were sent and not answered, with when each was first sent.
        lock: at most one write at a time.
        gone: whether the lease was released, finished or lost.
        asked: whether the listener knows that another worker asked for it.
    """

    def __init__(self, lease: Lease, now: float) -> None:
        self.lease = lease
        self.epoch = lease.counter
        self.written_at = now
        self.unconfirmed: dict[Lease, float] = {}
        self.lock = asyncio.Lock()
        self.gone = False
        self.asked = False

    @property
    def key(self) -> str:
        """The lease key."""
        return self.lease.key
