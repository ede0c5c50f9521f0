"""What all readers of a worker counted, those that are gone included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from streamproc.kinesis.reading import ReaderStatistics
from streamproc.observability.status import ShardStatus

__all__ = ["ReaderTotals"]

_COUNTED: Final = (
    "calls", "throttles", "expired_iterators", "transient_errors", "malformed", "aggregates",
    "out_of_range",
)  # fmt: skip


class ReaderTotals:
    """Adds up readers' counters over shards that come and go.

    A reader is known only while its shard is held, so what it counted between the last look and
    its end is left out. Invariant: no total ever falls.
    """

    def __init__(self) -> None:
        self._gone: Counter[str] = Counter()
        self._last: dict[tuple[str, int], ReaderStatistics] = {}

    def look(self, shards: Sequence[ShardStatus]) -> dict[str, int]:
        """Return the totals by counter, with the readers of `shards` as they are now."""
        now = {
            (shard.shard_id, shard.epoch): shard.reader
            for shard in shards
            if shard.reader is not None
        }
        for key, before in self._last.items():
            after = now.get(key)
            # Fewer calls than before: the shard was started anew under the same lease.
            if after is None or after.calls < before.calls:
                self._add(self._gone, before)
        self._last = now
        totals = Counter(self._gone)
        for reader in now.values():
            self._add(totals, reader)
        return {name: totals[name] for name in _COUNTED}

    def _add(self, totals: Counter[str], reader: ReaderStatistics) -> None:
        for name in _COUNTED:
            totals[name] += getattr(reader, name)
