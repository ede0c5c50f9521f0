from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from streamproc.leases.statistics import LeaseStatistics
from streamproc.observability.fleet import FleetCollector, WorkerProcess
from streamproc.observability.metrics import WorkerCollector, worker_registry
from streamproc.pipeline.statistics import ShardStatistics
from streamproc_inventory.drift import DriftCollector
from tests.observability.making import FakeWorker, lease, reader, shard

LABELS = {"group": "payments", "stream": "orders"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def registry_of(worker: FakeWorker) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {**LABELS, **labels})


def test_totals_are_those_of_all_shards_and_of_the_departed() -> None:
    worker = FakeWorker(
        shards=[shard("a", records=3, bytes=30), shard("b", records=4, bytes=40)],
        departed=ShardStatistics(records=100, bytes=1_000),
    )
    registry = registry_of(worker)
    assert value(registry, "streamproc_records_total") == 107
    assert value(registry, "streamproc_record_bytes_total") == 1_070


def test_a_shard_that_departs_takes_nothing_away() -> None:
    counted = ShardStatistics(records=3, failed_by_processor={"fraud": 2})
    counted.batch_seconds.observe(0.2)
    worker = FakeWorker(
        shards=[shard("a", **{f: getattr(counted, f) for f in counted.__struct_fields__})]
    )
    registry = registry_of(worker)
    before = generate_latest(registry)
    departed = ShardStatistics()
    departed.add(counted)
    worker.change(shards=[], departed=departed)
    after = generate_latest(registry)
    counters = re.compile(rb"^streamproc_(?:records|failed|batch_duration)\S* .*$", re.M)
    assert counters.findall(before) == counters.findall(after)
    assert len(counters.findall(before)) > 10


def test_scraping_changes_no_counter_of_the_worker() -> None:
    worker = FakeWorker(shards=[shard("a", records=3)], departed=ShardStatistics(records=1))
    registry = registry_of(worker)
    generate_latest(registry)
    assert value(registry, "streamproc_records_total") == 4
    assert worker.now.departed.records == 1


def test_counts_by_processor_have_a_series_each() -> None:
    worker = FakeWorker(
        shards=[shard("a", emitted_by_processor={"fraud": 1}, failed_by_processor={"stock": 2})],
        departed=ShardStatistics(emitted_by_processor={"fraud": 10, "stock": 5}),
    )
    registry = registry_of(worker)
    assert value(registry, "streamproc_emitted_events_total", processor="fraud") == 11
    assert value(registry, "streamproc_emitted_events_total", processor="stock") == 5
    assert value(registry, "streamproc_failed_events_total", processor="stock") == 2


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("processed", "streamproc_processed_events_total"),
        ("duplicates", "streamproc_duplicate_events_total"),
        ("unknown", "streamproc_unknown_events_total"),
        ("dead_letters", "streamproc_dead_letters_total"),
        ("retries", "streamproc_retries_total"),
        ("reruns", "streamproc_batch_reruns_total"),
        ("conflicts", "streamproc_commit_conflicts_total"),
        ("batches", "streamproc_batches_total"),
        ("rewinds", "streamproc_state_rewinds_total"),
        ("fenced", "streamproc_fenced_commits_total"),
        ("store_errors", "streamproc_store_errors_total"),
        ("replica_shortfalls", "streamproc_replica_shortfalls_total"),
    ],
)
def test_each_counter_is_its_own_field(field: str, name: str) -> None:
    registry = registry_of(FakeWorker(shards=[shard("a", **{field: 7})]))
    assert value(registry, name) == 7
    sevens = [s.name for family in registry.collect() for s in family.samples if s.value == 7]
    assert sevens == [name]


def test_histograms_are_cumulative_and_end_in_infinity() -> None:
    worker = FakeWorker()
    name = "streamproc_end_to_end_latency_seconds"
    for seconds in (0.01, 0.02, 40.0, 4_000.0):
        worker.now.departed.end_to_end_seconds.observe(seconds)
    registry = registry_of(worker)
    assert value(registry, f"{name}_bucket", le="0.01") == 1
    assert value(registry, f"{name}_bucket", le="0.025") == 2
    assert value(registry, f"{name}_bucket", le="30.0") == 2
    assert value(registry, f"{name}_bucket", le="60.0") == 3
    assert value(registry, f"{name}_bucket", le="+Inf") == 4
    assert value(registry, f"{name}_count") == 4
    assert value(registry, f"{name}_sum") == pytest.approx(4_040.03)


def test_a_shard_is_behind_by_what_kinesis_said_and_unknown_before_that() -> None:
    registry = registry_of(FakeWorker(shards=[shard("a", behind=1_500), shard("b", behind=None)]))
    assert value(registry, "streamproc_millis_behind_latest", shard="a") == 1_500
    assert value(registry, "streamproc_millis_behind_latest", shard="b") is None


def test_every_phase_is_always_there_so_that_an_alert_finds_its_series() -> None:
    registry = registry_of(FakeWorker(shards=[shard("a"), shard("b"), shard("c", phase="halted")]))
    assert value(registry, "streamproc_shards", phase="processing") == 2
    assert value(registry, "streamproc_shards", phase="halted") == 1
    assert value(registry, "streamproc_shards", phase="draining") == 0


def test_leases_are_mine_another_workers_or_nobodys() -> None:
    leases = [
        lease("a", "w1"),
        lease("b", "w2"),
        lease("c", None),
        lease("d", None, "SHARD_END"),
        lease("e", "w1"),
    ]
    worker = FakeWorker(leases=leases, lease_changes={"acquired": 3, "lost": 1})
    registry = registry_of(worker)
    assert value(registry, "streamproc_leases_held") == 2
    assert value(registry, "streamproc_leases_unowned") == 1
    assert value(registry, "streamproc_lease_changes_total", kind="acquired") == 3
    assert value(registry, "streamproc_lease_changes_total", kind="lost") == 1


def test_the_worker_itself() -> None:
    worker = FakeWorker(
        prefetched_bytes=5,
        loop_lag_seconds=0.25,
        outbox_delivered=8,
        outbox_failures=9,
        outbox_size=11,
        outbox_lag_seconds=1.5,
        dead_letters_delivered=12,
        dead_letter_failures=13,
    )
    registry = registry_of(worker)
    assert value(registry, "streamproc_ready") == 1
    assert value(registry, "streamproc_prefetched_bytes") == 5
    assert value(registry, "streamproc_prefetch_limit_bytes") == 1024
    assert value(registry, "streamproc_event_loop_lag_seconds") == 0.25
    assert value(registry, "streamproc_outbox_delivered_events_total") == 8
    assert value(registry, "streamproc_outbox_failures_total") == 9
    assert value(registry, "streamproc_outbox_events") == 11
    assert value(registry, "streamproc_outbox_lag_seconds") == 1.5
    assert value(registry, "streamproc_dead_letters_delivered_total") == 12
    assert value(registry, "streamproc_dead_letter_failures_total") == 13
    worker.change(ready=False)
    assert value(registry, "streamproc_ready") == 0


def test_readers_totals_outlive_their_readers() -> None:
    worker = FakeWorker(shards=[shard("a", reader=reader(calls=10, throttles=2))])
    registry = registry_of(worker)
    calls = "streamproc_get_records_calls_total"
    assert value(registry, calls) == 10
    worker.change(shards=[shard("b", reader=reader(calls=1))])
    assert value(registry, calls) == 11
    # The same shard comes back under a new lease, then is started anew under that one.
    worker.change(shards=[shard("a", epoch=2, reader=reader(calls=5))])
    assert value(registry, calls) == 16
    worker.change(shards=[shard("a", epoch=2, reader=reader(calls=3))])
    assert value(registry, calls) == 19
    worker.change(shards=[shard("a", epoch=3, reader=None)])
    assert value(registry, calls) == 19
    assert value(registry, "streamproc_get_records_throttles_total") == 2


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("expired_iterators", "streamproc_expired_iterators_total"),
        ("transient_errors", "streamproc_get_records_errors_total"),
        ("malformed", "streamproc_malformed_answers_total"),
        ("aggregates", "streamproc_kpl_aggregates_total"),
        ("out_of_range", "streamproc_kpl_out_of_range_records_total"),
    ],
)
def test_each_reader_counter_is_its_own_field(field: str, name: str) -> None:
    registry = registry_of(FakeWorker(shards=[shard("a", reader=reader(**{field: 7}))]))
    assert value(registry, name) == 7


def test_both_text_forms_can_be_read_back() -> None:
    worker = FakeWorker(
        shards=[shard("a", failed_by_processor={"fraud": 1})],
        leases=[lease("a", "w1")],
        lease_changes={"acquired": 1},
    )
    registry = worker_registry(worker)
    names = {family.name for family in registry.collect()}
    assert {f.name for f in parse_openmetrics(generate_openmetrics(registry).decode())} == names
    read_back = {f.name.removesuffix("_info") for f in parse(generate_latest(registry).decode())}
    assert read_back == names


def test_each_worker_has_a_registry_of_its_own() -> None:
    one, two = worker_registry(FakeWorker(group="one")), worker_registry(FakeWorker(group="two"))
    assert b'group="two"' not in generate_latest(one)
    assert b'group="two"' in generate_latest(two)


def full_worker() -> FakeWorker:
    return FakeWorker(
        shards=[shard("a", emitted_by_processor={"p": 1}, failed_by_processor={"p": 1})],
        lease_changes={"acquired": 1},
        outbox_size=0,
        parked_keys=0,
        outbox_lag_seconds=0.0,
    )


def exposed() -> dict[str, tuple[str, frozenset[str]]]:
    """Return, for each metric as Prometheus names it, its type and labels."""
    suffix = {"counter": "_total", "info": "_info"}
    one = WorkerProcess(number=0, socket="")
    drift = DriftCollector()
    drift.note("sku", "location", 1)
    families = [
        *worker_registry(full_worker(), [drift]).collect(),
        *FleetCollector([one], {}, "payments", "orders").collect(),
    ]
    return {
        family.name + suffix.get(family.type, ""): (
            "gauge" if family.type == "info" else family.type,
            frozenset(label for s in family.samples for label in s.labels) - {"le"},
        )
        for family in families
    }


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|[^|]*\|([^|]*)\|", DOCUMENT.read_text("utf-8"), re.M)
    common = frozenset(LABELS)
    return {
        name: (
            kind,
            (common if re.match("streamproc_(?!inventory_)", name) else frozenset())
            | set(re.findall(r"`(\w+)`", labels)),
        )
        for name, kind, labels in rows
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the process metrics are read from /proc")
def test_the_document_and_the_registry_name_the_same_metrics_types_and_labels() -> None:
    assert documented() == exposed()


def test_the_kinds_of_lease_changes_are_all_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    kinds = set(LeaseStatistics.__struct_fields__) - {"held", "store_healthy"}
    assert {kind for kind in kinds if f"`{kind}`" not in text} == set()
