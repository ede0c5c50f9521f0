"""How many records go into one batch: few at the tip, for latency; many behind, for throughput."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["BatchPace"]

TIP_S: Final = 0.02
"""Seconds that a batch at the tip may take: what its first record waits for its last."""

LAG_SHARE: Final = 0.1
"""Part of the lag that a batch may take: what is a second late may wait for another tenth."""

MOST_S: Final = 1.0
"""Seconds that no batch is to exceed: a stop, a hand-over and a second try wait for one."""

LEAST: Final = 50
"""Records that a batch may have in any case: a commit costs a round trip, however few it brings."""

_WEIGHT: Final = 0.25
"""Of the last batch in the running mean of what a record takes."""


class BatchPace(msgspec.Struct, frozen=True):
    """What records of a shard take lately; decides how many are processed and committed at once.

    Attributes:
        seconds: for each record of a batch, from its start to its commit; 0.0 before the first one.
    """

    seconds: float = 0.0

    def after(self, records: int, took: float) -> BatchPace:
        """Return the pace after a batch that took that many seconds."""
        if records == 0:
            return self
        each = took / records
        if self.seconds == 0.0:
            return BatchPace(each)
        return BatchPace(self.seconds + _WEIGHT * (each - self.seconds))

    def size(self, most: int, lag: float) -> int:
        """Return how many records the next batch may have.

        Args:
            most: whatever the lag is.
            lag: seconds by which the shard is behind.
        """
        if self.seconds <= 0.0:
            return most
        allowed = min(MOST_S, max(TIP_S, LAG_SHARE * lag))
        return max(min(LEAST, most), min(most, int(allowed / self.seconds)))
