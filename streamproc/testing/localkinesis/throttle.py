"""Rate limits of one shard, as AWS applies them ("Quotas and limits", developer guide)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamproc.testing.localkinesis import limits


@dataclass(frozen=True, kw_only=True)
class ThrottleLimits:
    """What a shard takes and gives each second."""

    in_bytes_per_s: int = limits.SHARD_IN_BYTES_PER_S
    in_records_per_s: int = limits.SHARD_IN_RECORDS_PER_S
    out_bytes_per_s: int = limits.SHARD_OUT_BYTES_PER_S
    reads_per_s: int = limits.SHARD_READS_PER_S


class _Window:
    """A budget of units a second, counted in seconds that start with the first use.

    Use beyond a second's budget is owed to the following seconds.
    """

    __slots__ = ("_per_s", "_started_ms", "_used")

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._started_ms = 0
        self._used = 0

    def free(self, now_ms: int) -> int:
        """Return what is left in the current second; zero or less when used up."""
        seconds = (now_ms - self._started_ms) // 1000
        if seconds > 0:
            self._used = max(0, self._used - seconds * self._per_s)
            self._started_ms = self._started_ms + seconds * 1000 if self._used else now_ms
        return self._per_s - self._used

    def use(self, units: int) -> None:
        self._used += units


class ShardThrottle:
    """The state of one shard's limits. Refused requests cost nothing."""

    def __init__(self, rates: ThrottleLimits) -> None:
        self._rates = rates
        self._in_bytes = _Window(rates.in_bytes_per_s)
        self._in_records = _Window(rates.in_records_per_s)
        self._out_bytes = _Window(rates.out_bytes_per_s)
        self._reads: deque[int] = deque(maxlen=rates.reads_per_s)

    def admit_record(self, size: int, now_ms: int) -> bool:
        """Admit a record of `size` bytes into the shard if both input limits allow it."""
        if self._in_records.free(now_ms) < 1 or self._in_bytes.free(now_ms) < size:
            return False
        self._in_records.use(1)
        self._in_bytes.use(size)
        return True

    def admit_read(self, now_ms: int) -> bool:
        """Admit a GetRecords call if the transaction and byte limits allow it.

        "GetRecords" page: a call that returned 10 MB shuts the shard for the next five seconds,
        which follows from bytes being owed to later seconds.
        """
        reads = self._reads
        if len(reads) == reads.maxlen and now_ms - reads[0] < 1000:
            return False
        if self._out_bytes.free(now_ms) <= 0:
            return False
        reads.append(now_ms)
        return True

    def charge_read(self, size: int) -> None:
        """Count the bytes that an admitted read returned."""
        self._out_bytes.use(size)
