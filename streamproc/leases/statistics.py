"""What a coordinator counted."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

__all__ = ["Event", "LeaseStatistics", "Tally"]

Event = Literal[
    "acquired",
    "lost",
    "fenced",
    "released",
    "handed_over",
    "finished",
    "requested",
    "forced",
    "take_conflicts",
    "scans",
    "renewals",
    "renew_failures",
    "checkpoints",
    "store_errors",
]


class LeaseStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the coordinator started, and two present conditions.

    Attributes:
        held: leases held now.
        store_healthy: whether the last call of the store succeeded.
        acquired: leases taken, whether free, expired, handed over or returning.
        lost: leases lost to another worker, to deletion or to self-fencing.
        fenced: of those lost, the ones not renewed for a lease duration.
        released: leases given up by this worker, hand-overs included.
        handed_over: of those released, the ones another worker had asked for.
        finished: leases of shards read to their end.
        requested: hand-overs this worker asked for.
        forced: hand-overs that had no answer and were taken by force.
        take_conflicts: takes and requests that another worker's write forestalled.
        scans: successful looks at all leases.
        renewals: successful writes that kept a lease, checkpoints included; with one heartbeat for
            all leases of a worker, the heartbeats.
        renew_failures: renewals and checkpoints that failed; they are tried again.
        checkpoints: successful writes that moved a checkpoint.
        store_errors: failed calls of the store, of any kind.
    """

    held: int = 0
    store_healthy: bool = True
    acquired: int = 0
    lost: int = 0
    fenced: int = 0
    released: int = 0
    handed_over: int = 0
    finished: int = 0
    requested: int = 0
    forced: int = 0
    take_conflicts: int = 0
    scans: int = 0
    renewals: int = 0
    renew_failures: int = 0
    checkpoints: int = 0
    store_errors: int = 0


class Tally:
    """The running counts behind `LeaseStatistics`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, event: Event) -> None:
        """Count one event."""
        self._counts[event] += 1

    def statistics(self, held: int, store_healthy: bool) -> LeaseStatistics:
        """Return the counts so far."""
        return LeaseStatistics(held=held, store_healthy=store_healthy, **self._counts)
