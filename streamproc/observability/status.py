"""A worker's state as data: what /status returns and what metrics are made from."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from streamproc.kinesis.reading import ReaderStatistics
from streamproc.pipeline.statistics import ShardStatistics

__all__ = ["LeaseStatus", "ShardStatus", "StatusSource", "WorkerStatus"]


class ShardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One shard that this worker processes.

    `millis_behind_latest` is None before the first answer of Kinesis; `phase` is a `ShardPhase`;
    `waits_for_outbox` tells that a commit waits until the outbox is below its limit.
    """

    shard_id: str
    phase: str
    epoch: int
    position: str
    millis_behind_latest: int | None
    statistics: ShardStatistics
    reader: ReaderStatistics | None
    timers_pending: int = 0
    waits_for_outbox: bool = False


class LeaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lease of the group as this worker last saw it."""

    shard_id: str
    owner: str | None
    checkpoint: str
    counter: int
    handing_over_from: str | None = None


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at one moment; times are in seconds.

    Attributes:
        ready: whether it takes part: the stream, Redis and the lease store have answered, and it
            is not stopping.
        shards: those it holds.
        departed: the counters of shards it held before, so that totals never fall.
        leases: every lease of the group.
        lease_changes: counts by kind: acquired, lost, handed over and so on.
        prefetched_bytes: bytes read ahead over all shards, of `prefetch_limit`.
        loop_lag_seconds: how late the event loop was at the most, in the last 15 s.
        outbox_delivered: emitted events that the relay has delivered.
        outbox_failures: its deliveries that failed, wholly or in part.
        outbox_size: events that wait there; None while another worker's relay is at work.
        outbox_lag_seconds: age of the oldest of them; None likewise.
        parked_keys: partition keys of the group that are parked; None before the first look.
        dead_letters_delivered: dead letters that their relay has delivered.
        dead_letter_failures: its deliveries that failed, wholly or in part.
    """

    worker_id: str
    group: str
    stream: str
    state: Literal["starting", "running", "draining", "stopped"]
    ready: bool
    version: str
    pid: int
    uptime_seconds: float
    shards: list[ShardStatus]
    departed: ShardStatistics
    leases: list[LeaseStatus]
    lease_changes: dict[str, int]
    prefetched_bytes: int
    prefetch_limit: int
    loop_lag_seconds: float
    outbox_delivered: int = 0
    outbox_failures: int = 0
    outbox_size: int | None = None
    outbox_lag_seconds: float | None = None
    parked_keys: int | None = None
    dead_letters_delivered: int = 0
    dead_letter_failures: int = 0


class StatusSource(Protocol):
    """What HTTP and metrics need of a worker."""

    def status(self) -> WorkerStatus:
        """Return the worker's state now; cheap, no IO."""
        ...

    def is_live(self) -> bool:
        """Whether the process should be left running: its lease thread and loop still turn."""
        ...
