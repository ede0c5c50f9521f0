"""A worker that tells what a test wants it to tell."""

from __future__ import annotations

from typing import Any

import msgspec

from streamproc.kinesis.polling import Mode
from streamproc.kinesis.reading import ReaderStatistics
from streamproc.observability.status import LeaseStatus, ShardStatus, WorkerStatus
from streamproc.pipeline.statistics import ShardStatistics

READER = ReaderStatistics(
    records=0,
    aggregates=0,
    out_of_range=0,
    bytes=0,
    calls=0,
    throttles=0,
    expired_iterators=0,
    transient_errors=0,
    malformed=0,
    rewinds=0,
    prefetched_bytes=0,
    millis_behind_latest=0,
    mode=Mode.TIP,
)


def reader(**counts: int) -> ReaderStatistics:
    """Return a reader's statistics with these counts."""
    return msgspec.structs.replace(READER, **counts)


def shard(
    shard_id: str,
    *,
    epoch: int = 1,
    phase: str = "processing",
    behind: int | None = 0,
    reader: ReaderStatistics | None = READER,
    **counts: Any,
) -> ShardStatus:
    """Return a shard with these counters."""
    return ShardStatus(
        shard_id=shard_id,
        phase=phase,
        epoch=epoch,
        position="TRIM_HORIZON",
        millis_behind_latest=behind,
        statistics=ShardStatistics(**counts),
        reader=reader,
    )


def lease(shard_id: str, owner: str | None, checkpoint: str = "TRIM_HORIZON") -> LeaseStatus:
    """Return a lease."""
    return LeaseStatus(shard_id=shard_id, owner=owner, checkpoint=checkpoint, counter=1)


class FakeWorker:
    """A `StatusSource` whose status is an attribute."""

    def __init__(self, **changes: Any) -> None:
        self.live = True
        self.now = WorkerStatus(
            worker_id="w1",
            group="payments",
            stream="orders",
            state="running",
            ready=True,
            version="1.2.3",
            pid=42,
            uptime_seconds=1.0,
            shards=[],
            departed=ShardStatistics(),
            leases=[],
            lease_changes={},
            prefetched_bytes=0,
            prefetch_limit=1024,
            loop_lag_seconds=0.0,
        )
        self.change(**changes)

    def change(self, **changes: Any) -> None:
        """Replace fields of the status."""
        self.now = msgspec.structs.replace(self.now, **changes)

    def status(self) -> WorkerStatus:
        return self.now

    def is_live(self) -> bool:
        return self.live
