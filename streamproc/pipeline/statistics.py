"""What a shard's pipeline counts; metrics and status read it, the hot path only adds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["LATENCY_BUCKETS", "Histogram", "ShardStatistics"]

LATENCY_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
)  # fmt: skip
"""Upper bounds in seconds, inclusive."""


class Histogram(msgspec.Struct):
    """Counts of observations by bucket; `counts` has one more entry than `bounds`, for the rest."""

    bounds: tuple[float, ...]
    counts: list[int] = msgspec.field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_ages(self, now: float, times: Sequence[float]) -> None:
        """Add `now - time` for each of `times`.

        A batch's arrival times are nearly sorted, so one sort and a search for each bound cost
        far less than an observation each.
        """
        ordered = sorted(times)
        above = len(ordered)
        for index, bound in enumerate(self.bounds):
            older = bisect_left(ordered, now - bound, 0, above)
            self.counts[index] += above - older
            above = older
        self.counts[-1] += above
        self.total += now * len(ordered) - sum(ordered)

    def add(self, other: Histogram) -> None:
        """Add all of another histogram with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class ShardStatistics(msgspec.Struct):
    """One shard's counters since its lease was taken.

    Every record read ends in exactly one of `processed`, `duplicates`, `unknown`, `dead_letters`
    and `parked`, so they add up to `records`, as long as no parked record that is redriven becomes
    a dead letter: that is counted once more.

    Attributes:
        records: records committed, whatever became of them.
        bytes: their payload bytes.
        processed: events handled and committed.
        duplicates: events whose id was committed before, or earlier in the same batch.
        unknown: events skipped because no processor declares their type.
        dead_letters: records put aside for good.
        parked: records put aside with their partition key, until that is redriven.
        redriven: parked records that were taken up again and are done with.
        retries: handler attempts after the first.
        reruns: batches run again, because of a failing handler, a duplicate or a conflict.
        conflicts: commits refused because another shard had changed a state that was read.
        halvings: batches cut in half because they kept being refused for that.
        timers_fired: timers whose events were handled, or put aside, and committed.
        timers_failed: of those, the ones put aside; they are not among the dead letters above.
        emitted: events written to the outbox.
        batches: commits.
        outbox_waits: commits that waited because the outbox was full.
        outbox_wait_seconds: time that they waited.
        rewinds: times that Redis turned out to be behind and the shard was read again.
        fenced: commits refused since a newer owner had the shard.
        store_errors: Redis calls that failed and were repeated.
        replica_shortfalls: of those, commits that too few replicas had acknowledged in time.
        batch_seconds: time from the start of a batch to its commit.
        batch_records: records in a batch.
        check_seconds: time of a check round trip.
        commit_seconds: time of a commit round trip.
        timer_late_seconds: time from when a timer by the wall clock was due to its commit.
        end_to_end_seconds: time from a record's arrival in Kinesis to its commit.
    """

    records: int = 0
    bytes: int = 0
    processed: int = 0
    duplicates: int = 0
    unknown: int = 0
    dead_letters: int = 0
    parked: int = 0
    redriven: int = 0
    retries: int = 0
    reruns: int = 0
    conflicts: int = 0
    halvings: int = 0
    timers_fired: int = 0
    timers_failed: int = 0
    emitted: int = 0
    batches: int = 0
    outbox_waits: int = 0
    outbox_wait_seconds: float = 0.0
    rewinds: int = 0
    fenced: int = 0
    store_errors: int = 0
    replica_shortfalls: int = 0
    emitted_by_processor: dict[str, int] = msgspec.field(default_factory=dict)
    failed_by_processor: dict[str, int] = msgspec.field(default_factory=dict)
    batch_records: Histogram = msgspec.field(
        default_factory=lambda: Histogram((1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000))
    )
    batch_seconds: Histogram = msgspec.field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    check_seconds: Histogram = msgspec.field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    commit_seconds: Histogram = msgspec.field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    timer_late_seconds: Histogram = msgspec.field(
        default_factory=lambda: Histogram(LATENCY_BUCKETS)
    )
    end_to_end_seconds: Histogram = msgspec.field(
        default_factory=lambda: Histogram(LATENCY_BUCKETS)
    )

    def add(self, other: ShardStatistics) -> None:
        """Add all of another shard's counters, such as one whose lease went away."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Histogram):
                mine.add(theirs)
            elif isinstance(mine, dict):
                for key, count in theirs.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, mine + theirs)
