"""What the workers report, put together: one view of the group from several /status pages."""

from __future__ import annotations

import math
from collections import Counter, deque
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from streamproc.observability.status import LeaseStatus, ShardStatus, WorkerStatus
from streamproc.pipeline.statistics import LATENCY_BUCKETS, Histogram, ShardStatistics

__all__ = ["Board", "ShardRow", "bound_of", "fetch_status", "totals"]

_RATE_WINDOW_S: Final = 2.0
_decode_status = msgspec.json.Decoder(WorkerStatus).decode


class ShardRow(msgspec.Struct, frozen=True, kw_only=True):
    """One shard as the screen shows it.

    Attributes:
        owner: the worker that holds it; None when nobody does.
        is_closed: whether it was split and read to its end.
        rate: records committed a second, over the last two seconds.
        lag_ms: how far its reader is behind the tip; None when nobody reads.
    """

    shard_id: str
    owner: str | None
    is_closed: bool
    rate: float
    lag_ms: int | None
    records: int
    duplicates: int
    dead_letters: int


class Board:
    """The last word of every worker, also of those that are dead.

    Attributes:
        workers: the last status of each, by name.
        dead: those that will not report again.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerStatus] = {}
        self.dead: set[str] = set()
        self._spells: dict[tuple[str, str, int], ShardStatistics] = {}
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def take(self, name: str, status: WorkerStatus, now: float) -> None:
        """Take a worker's status, fetched at `now` monotonic seconds."""
        self.workers[name] = status
        for shard in status.shards:
            self._spells[name, shard.shard_id, shard.epoch] = shard.statistics
            samples = self._samples.setdefault(shard.shard_id, deque())
            samples.append((now, self._records(shard.shard_id)))
            while samples[0][0] < now - _RATE_WINDOW_S:
                samples.popleft()

    def rows(self, now: float) -> list[ShardRow]:
        """Return every shard that anybody ever held, in the order of their ids."""
        return [self._row(shard_id, now) for shard_id in sorted(self._samples)]

    def owners(self) -> dict[str, ShardStatus]:
        """Return the shards that living workers hold."""
        return {
            shard.shard_id: shard
            for name, status in self.workers.items()
            if name not in self.dead
            for shard in status.shards
        }

    def emitted(self) -> Counter[str]:
        """Return events emitted by processor, over all workers."""
        emitted: Counter[str] = Counter()
        for status in self.workers.values():
            emitted.update(totals(status).emitted_by_processor)
        return emitted

    def committed(self) -> int:
        """Return records committed, over all workers."""
        return sum(totals(status).records for status in self.workers.values())

    def end_to_end(self) -> Histogram:
        """Return the times in seconds from arrival to commit, over all workers."""
        merged = Histogram(LATENCY_BUCKETS)
        for status in self.workers.values():
            merged.add(totals(status).end_to_end_seconds)
        return merged

    def _row(self, shard_id: str, now: float) -> ShardRow:
        spells = [stats for (_, shard, _), stats in self._spells.items() if shard == shard_id]
        held = self.owners().get(shard_id)
        owner = self._owner(shard_id)
        return ShardRow(
            shard_id=shard_id,
            owner=owner,
            is_closed=self._is_closed(shard_id),
            rate=self._rate(shard_id, now),
            lag_ms=None if held is None else held.millis_behind_latest,
            records=sum(stats.records for stats in spells),
            duplicates=sum(stats.duplicates for stats in spells),
            dead_letters=sum(stats.dead_letters for stats in spells),
        )

    def _owner(self, shard_id: str) -> str | None:
        """Return who holds a shard: by his own word, else by the lease table as seen last."""
        for name, status in self.workers.items():
            if name not in self.dead and any(s.shard_id == shard_id for s in status.shards):
                return name
        for lease in self._leases():
            if lease.shard_id == shard_id:
                return lease.owner
        return None

    def _is_closed(self, shard_id: str) -> bool:
        return any(
            lease.shard_id == shard_id and lease.checkpoint == "SHARD_END"
            for lease in self._leases()
        )

    def _leases(self) -> list[LeaseStatus]:
        living = [s for name, s in self.workers.items() if name not in self.dead]
        return max((s.leases for s in living), key=len, default=[])

    def _records(self, shard_id: str) -> int:
        return sum(
            stats.records for (_, shard, _), stats in self._spells.items() if shard == shard_id
        )

    def _rate(self, shard_id: str, now: float) -> float:
        samples = [s for s in self._samples[shard_id] if s[0] >= now - _RATE_WINDOW_S]
        if len(samples) < 2:
            return 0.0
        (first, before), (last, after) = samples[0], samples[-1]
        return (after - before) / (last - first) if last > first else 0.0


def totals(status: WorkerStatus) -> ShardStatistics:
    """Return a worker's counters over all shards that it holds or held; a copy."""
    total = ShardStatistics()
    total.add(status.departed)
    for shard in status.shards:
        total.add(shard.statistics)
    return total


def bound_of(histogram: Histogram, share: float) -> float:
    """Return the least bucket bound that `share` of the observations do not exceed.

    Not interpolated: inside a wide bucket that would be a guess, and this is a fact.
    """
    wanted = share * sum(histogram.counts)
    seen = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return math.inf


async def fetch_status(socket: Path, timeout: float = 2.0) -> WorkerStatus | None:
    """Return a worker's status; None while it does not answer, as before it listens."""
    connector = aiohttp.UnixConnector(path=str(socket))
    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            session.get("http://worker/status") as answer,
        ):
            return _decode_status(await answer.read())
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
