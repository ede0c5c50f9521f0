"""Several workers' reports as one view."""

from __future__ import annotations

from streamproc.observability.status import LeaseStatus, ShardStatus, WorkerStatus
from streamproc.pipeline.statistics import Histogram, ShardStatistics
from streamproc.position import SHARD_END, TRIM_HORIZON, Position
from streamproc_benchmarks.demo.board import Board, bound_of, totals
from streamproc_benchmarks.demo.monitor import behind
from streamproc_benchmarks.demo.publisher import ShardLog


def shard(shard_id: str, records: int, *, epoch: int = 1, duplicates: int = 0) -> ShardStatus:
    return ShardStatus(
        shard_id=shard_id,
        phase="processing",
        epoch=epoch,
        position="5:0",
        millis_behind_latest=7,
        statistics=ShardStatistics(records=records, duplicates=duplicates),
        reader=None,
    )


def status(
    name: str, *shards: ShardStatus, departed: int = 0, leases: dict[str, tuple[str | None, str]]
) -> WorkerStatus:
    return WorkerStatus(
        worker_id=name,
        group="demo",
        stream="s",
        state="running",
        ready=True,
        version="0",
        pid=1,
        uptime_seconds=1.0,
        shards=list(shards),
        departed=ShardStatistics(records=departed),
        leases=[
            LeaseStatus(shard_id=key, owner=owner, checkpoint=checkpoint, counter=1)
            for key, (owner, checkpoint) in leases.items()
        ],
        lease_changes={},
        prefetched_bytes=0,
        prefetch_limit=1,
        loop_lag_seconds=0.0,
    )


def test_a_shard_keeps_its_counts_when_it_changes_hands() -> None:
    leases: dict[str, tuple[str | None, str]] = {"a": ("w1", "5:0")}
    board = Board()
    board.take("w1", status("w1", shard("a", 100, duplicates=3), leases=leases), 0.0)
    board.take("w2", status("w2", leases=leases), 0.0)

    board.dead.add("w1")
    (row,) = board.rows(0.0)
    assert (row.owner, row.lag_ms, row.records) == ("w1", None, 100)

    taken = status("w2", shard("a", 20, epoch=2, duplicates=1), leases={"a": ("w2", "5:0")})
    board.take("w2", taken, 1.0)
    (row,) = board.rows(1.0)
    assert (row.owner, row.lag_ms, row.records, row.duplicates) == ("w2", 7, 120, 4)
    assert row.rate == 20.0


def test_a_shard_that_was_read_to_its_end_is_closed_and_has_no_owner() -> None:
    board = Board()
    board.take("w1", status("w1", shard("a", 1), leases={"a": ("w1", "5:0")}), 0.0)
    board.take("w1", status("w1", departed=1, leases={"a": (None, "SHARD_END")}), 1.0)

    (row,) = board.rows(1.0)
    assert (row.owner, row.is_closed, row.records) == (None, True, 1)


def test_totals_count_departed_shards_and_leave_the_status_as_it_was() -> None:
    report = status("w", shard("a", 1), shard("b", 2), departed=4, leases={})

    assert (totals(report).records, totals(report).records) == (7, 7)


def test_a_bound_covers_the_share_and_the_bucket_before_it_does_not() -> None:
    histogram = Histogram((0.1, 0.5, 1.0))
    for value in (0.05, 0.05, 0.3, 2.0):
        histogram.observe(value)

    assert bound_of(histogram, 0.5) == 0.1
    assert bound_of(histogram, 0.51) == 0.5
    assert bound_of(histogram, 0.99) == float("inf")


def test_behind_counts_the_records_after_a_position() -> None:
    log = ShardLog(sequences=[10, 20, 30], kinds=["event"] * 3)

    assert behind(log, None) == behind(log, TRIM_HORIZON) == 3
    assert behind(log, Position("20")) == 1
    assert behind(log, Position("30")) == behind(log, SHARD_END) == 0
