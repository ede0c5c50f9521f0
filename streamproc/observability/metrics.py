"""Prometheus metrics, made from a worker's status when they are asked for.

Nothing is counted here: shards, readers and leases count anyway, so a scrape costs the hot path
nothing. Every metric is described in docs/metrics.md.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamproc.observability.reader_totals import ReaderTotals
from streamproc.observability.status import StatusSource, WorkerStatus
from streamproc.pipeline.shard import ShardPhase
from streamproc.pipeline.statistics import Histogram, ShardStatistics

__all__ = ["WorkerCollector", "worker_registry"]

_COUNTERS: Final = {
    "records": ("streamproc_records", "Records committed, whatever became of them."),
    "bytes": ("streamproc_record_bytes", "Payload bytes of the records committed."),
    "processed": ("streamproc_processed_events", "Events handled and committed."),
    "duplicates": ("streamproc_duplicate_events", "Events dropped as committed before."),
    "unknown": ("streamproc_unknown_events", "Events skipped: no processor declares their type."),
    "dead_letters": ("streamproc_dead_letters", "Records put into the dead letters."),
    "parked": ("streamproc_parked_records", "Records put aside with their partition key."),
    "redriven": ("streamproc_redriven_records", "Parked records taken up again and done with."),
    "retries": ("streamproc_retries", "Attempts of handlers after the first."),
    "batches": ("streamproc_batches", "Batches committed."),
    "reruns": ("streamproc_batch_reruns", "Batches run again before they could be committed."),
    "fenced": ("streamproc_fenced_commits", "Commits refused: a newer owner has the shard."),
    "conflicts": ("streamproc_commit_conflicts", "Commits refused: another shard's was earlier."),
    "halvings": (
        "streamproc_batch_halvings",
        "Batches cut in half, since others kept changing what they read.",
    ),
    "timers_fired": (
        "streamproc_timers_fired",
        "Timers fired and committed, failed ones included.",
    ),
    "timers_failed": ("streamproc_timers_failed", "Timers put into the dead letters."),
    "outbox_waits": ("streamproc_outbox_waits", "Commits that waited for a full outbox."),
    "outbox_wait_seconds": (
        "streamproc_outbox_wait_seconds",
        "Time that commits waited for a full outbox.",
    ),
    "rewinds": ("streamproc_state_rewinds", "Times Redis was behind and a shard was read again."),
    "store_errors": ("streamproc_store_errors", "Calls of Redis that failed and were repeated."),
    "replica_shortfalls": (
        "streamproc_replica_shortfalls",
        "Commits that too few replicas had acknowledged in time.",
    ),
}
_BY_PROCESSOR: Final = {
    "failed_by_processor": (
        "streamproc_failed_events",
        "Events whose handler failed for good, by processor.",
    ),
    "emitted_by_processor": (
        "streamproc_emitted_events",
        "Events written to the outbox, by processor.",
    ),
}
_HISTOGRAMS: Final = {
    "batch_records": ("streamproc_batch_records", "Records in a batch."),
    "batch_seconds": (
        "streamproc_batch_duration_seconds",
        "Time from the start of a batch to its commit.",
    ),
    "check_seconds": (
        "streamproc_check_duration_seconds",
        "Time of the round trip that looks for duplicates and loads state.",
    ),
    "commit_seconds": ("streamproc_commit_duration_seconds", "Time of the commit's round trip."),
    "timer_late_seconds": (
        "streamproc_timer_late_seconds",
        "Time from when a timer by the wall clock was due to its commit.",
    ),
    "end_to_end_seconds": (
        "streamproc_end_to_end_latency_seconds",
        "Time from a record's arrival in Kinesis to its commit.",
    ),
}
_READERS: Final = {
    "calls": ("streamproc_get_records_calls", "GetRecords calls."),
    "throttles": ("streamproc_get_records_throttles", "GetRecords calls over a Kinesis limit."),
    "expired_iterators": ("streamproc_expired_iterators", "Shard iterators that expired."),
    "transient_errors": (
        "streamproc_get_records_errors",
        "GetRecords calls that failed on the way or inside Kinesis.",
    ),
    "malformed": ("streamproc_malformed_answers", "Answers of Kinesis that could not be read."),
    "aggregates": ("streamproc_kpl_aggregates", "KPL aggregates unpacked."),
    "out_of_range": (
        "streamproc_kpl_out_of_range_records",
        "Sub-records of KPL aggregates left out, since their key belongs to another shard.",
    ),
}


class WorkerCollector(Collector):
    """Makes every `streamproc_` metric from what `source.status()` says at that moment.

    Counters are sums over the shards held now and those that departed, so they never fall.
    """

    def __init__(self, source: StatusSource) -> None:
        self._source = source
        self._readers = ReaderTotals()

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        status = self._source.status()
        totals = ShardStatistics()
        totals.add(status.departed)
        for shard in status.shards:
            totals.add(shard.statistics)
        made = _Families(status)
        yield from _from_shards(made, totals)
        for name, value in self._readers.look(status.shards).items():
            yield made.counter(*_READERS[name], value)
        yield from _from_worker(made, status)
        yield from _from_leases(made, status)


def worker_registry(
    source: StatusSource, collectors: Iterable[Collector] = ()
) -> CollectorRegistry:
    """Return a registry of its own for a worker: its metrics, the process's and the GC's.

    Args:
        source: the worker.
        collectors: its processors' own.
    """
    registry = CollectorRegistry()
    registry.register(WorkerCollector(source))
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Families:
    """Makes metric families that carry the worker's group and stream."""

    def __init__(self, status: WorkerStatus) -> None:
        self._common = (status.group, status.stream)

    def counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=("group", "stream"))
        family.add_metric(self._common, value)
        return family

    def counters(self, name: str, text: str, label: str, values: dict[str, int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("group", "stream", label))
        for key, value in sorted(values.items()):
            family.add_metric((*self._common, key), value)
        return family

    def gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("group", "stream"))
        family.add_metric(self._common, value)
        return family

    def gauges(self, name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("group", "stream", label))
        for key, value in values:
            family.add_metric((*self._common, key), value)
        return family

    def histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("group", "stream"))
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(self._common, buckets, histogram.total)
        return family

    def info(self, name: str, text: str, **values: str) -> Metric:
        family = InfoMetricFamily(name, text, labels=("group", "stream"))
        family.add_metric(self._common, values)
        return family


def _from_shards(made: _Families, totals: ShardStatistics) -> Iterator[Metric]:
    for field, (name, text) in _COUNTERS.items():
        yield made.counter(name, text, getattr(totals, field))
    for field, (name, text) in _BY_PROCESSOR.items():
        yield made.counters(name, text, "processor", getattr(totals, field))
    for field, (name, text) in _HISTOGRAMS.items():
        yield made.histogram(name, text, getattr(totals, field))


def _from_worker(made: _Families, status: WorkerStatus) -> Iterator[Metric]:
    behind = [
        (shard.shard_id, shard.millis_behind_latest)
        for shard in status.shards
        if shard.millis_behind_latest is not None
    ]
    yield made.gauges(
        "streamproc_millis_behind_latest",
        "Milliseconds from the last record read to the shard's tip, as Kinesis says.",
        "shard",
        behind,
    )
    yield made.gauge(
        "streamproc_timers_pending",
        "Timers that wait in the shards of this worker.",
        sum(shard.timers_pending for shard in status.shards),
    )
    # Every phase always has a value: an alert on one cannot miss it for want of a series.
    phases = Counter({phase.value: 0 for phase in ShardPhase})
    phases.update(shard.phase for shard in status.shards)
    yield made.gauges(
        "streamproc_shards", "Shards of this worker by phase.", "phase", sorted(phases.items())
    )
    yield made.gauge(
        "streamproc_ready", "Whether the worker takes part (1) or not (0).", status.ready
    )
    yield made.gauge(
        "streamproc_prefetched_bytes", "Bytes read ahead over all shards.", status.prefetched_bytes
    )
    yield made.gauge(
        "streamproc_prefetch_limit_bytes",
        "Bytes that may be read ahead before reading waits.",
        status.prefetch_limit,
    )
    yield made.gauge(
        "streamproc_event_loop_lag_seconds",
        "How late the event loop was at most, lately.",
        status.loop_lag_seconds,
    )
    yield made.gauge(
        "streamproc_shards_waiting_for_outbox",
        "Shards whose commits wait until the outbox is below its limit.",
        sum(shard.waits_for_outbox for shard in status.shards),
    )
    if status.parked_keys is not None:
        yield made.gauge(
            "streamproc_parked_keys",
            "Partition keys of the group that are parked.",
            status.parked_keys,
        )
    yield made.counter(
        "streamproc_outbox_delivered_events",
        "Emitted events that the sink acknowledged to this worker's relay.",
        status.outbox_delivered,
    )
    yield made.counter(
        "streamproc_outbox_failures",
        "Deliveries that failed, wholly or in part, and are repeated.",
        status.outbox_failures,
    )
    if status.outbox_size is not None:
        yield made.gauge(
            "streamproc_outbox_events",
            "Events that wait in the outbox, as the relay at work sees it.",
            status.outbox_size,
        )
    if status.outbox_lag_seconds is not None:
        yield made.gauge(
            "streamproc_outbox_lag_seconds",
            "Age of the oldest event in the outbox, as the relay at work sees it.",
            status.outbox_lag_seconds,
        )
    yield made.counter(
        "streamproc_dead_letters_delivered",
        "Dead letters that the sink acknowledged to this worker's relay.",
        status.dead_letters_delivered,
    )
    yield made.counter(
        "streamproc_dead_letter_failures",
        "Deliveries of dead letters that failed, wholly or in part, and are repeated.",
        status.dead_letter_failures,
    )
    yield made.info(
        "streamproc_build",
        "What runs.",
        version=status.version,
        python=platform.python_version(),
        worker_id=status.worker_id,
    )


def _from_leases(made: _Families, status: WorkerStatus) -> Iterator[Metric]:
    yield made.counters(
        "streamproc_lease_changes",
        "What became of leases at this worker, by kind.",
        "kind",
        status.lease_changes,
    )
    yield made.gauge(
        "streamproc_leases_held",
        "Leases that this worker holds.",
        sum(lease.owner == status.worker_id for lease in status.leases),
    )
    yield made.gauge(
        "streamproc_leases_unowned",
        "Leases of the group that nobody holds, finished shards excluded.",
        sum(
            lease.owner is None and not lease.checkpoint.startswith("SHARD_END")
            for lease in status.leases
        ),
    )
