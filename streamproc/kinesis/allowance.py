"""A group's share of the bytes that a shard gives away: a token bucket, as pure functions.

Kinesis gives 2 MB a second and shard to all who poll it, and refuses calls for up to five seconds
after an answer of 10 MB (API: GetRecords). Groups that each keep to their share do not throttle
each other; one that reads a large answer at once makes the others wait for it.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["SHARD_BYTES_PER_SECOND", "Allowance"]

SHARD_BYTES_PER_SECOND: Final = 2_000_000
"""What a shard gives to all who poll it; data and partition keys, not their form on the wire."""


class Allowance(msgspec.Struct, frozen=True):
    """Bytes that may be read.

    An answer's size is known only once it is there, so the level may fall below zero; the next call
    waits until it is back. It never rises above what one second allows.

    Attributes:
        rate: bytes a second.
        level: bytes in hand at `at`.
        at: monotonic seconds.
    """

    rate: float
    level: float
    at: float

    def after(self, now: float, size: int) -> Allowance:
        """Return the allowance after an answer of that size."""
        return Allowance(self.rate, self._level(now) - size, now)

    def wait(self, now: float) -> float:
        """Return the seconds from `now` until the next call may be made."""
        return max(0.0, -self._level(now) / self.rate)

    def records(self, interval: float, record_bytes: float) -> int:
        """Return how many records to ask for in calls that are `interval` seconds apart.

        So that each call pays for itself: the others of a shard are not to wait for one answer.
        """
        return max(1, int(self.rate * interval / max(1.0, record_bytes)))

    def _level(self, now: float) -> float:
        return min(self.rate, self.level + self.rate * max(0.0, now - self.at))
