"""Runs of `latency`: records offered at a steady rate, and when each was due and done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.histogram import LatencyHistogram
from streamproc_benchmarks.latency import Capacity, Latency, LatencyRound
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.open_loop import Offered, ShardLoad
from streamproc_benchmarks.progress import Consumed, DoneBatch
from streamproc_benchmarks.rounds import Say, interleaved
from streamproc_benchmarks.runs import Bench, check, workload_of
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["LatencyPlan", "latency_round", "measure_latency"]

_SLACK_SHARE = 0.05
_SLACK_S = 1.0
# Far below a group's 10 ms, far above what adding up seconds costs in precision.
_ROUNDING_S = 1e-6


class LatencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """At which rate, for how long, how often, for whom.

    Attributes:
        rate: records a second; None takes `share` of what each consumer can do, measured first.
        share: of the capacity, 0 to 1.
        capacity_records: records of each of the runs that measure it.
        capacity_rounds: how many of them.
        seconds: for which records are offered.
        warm_up: seconds at the start that percentiles leave out.
        poll_interval: seconds between two polls of a worker's shard, for the bars.
    """

    consumers: Sequence[ConsumerName]
    rate: float | None
    share: float = 0.5
    capacity_records: int
    capacity_rounds: int
    seconds: float
    warm_up: float
    rounds: int
    shards: int
    seed: int
    poll_interval: float

    @property
    def streams(self) -> dict[str, int]:
        """The streams it needs: each run begins on an empty one."""
        live = [_stream(number, name) for number, name in interleaved(self.consumers, self.rounds)]
        filled = [] if self.rate is not None else [_filled(name) for name in self.workloads]
        return dict.fromkeys([*live, *filled], self.shards)

    @property
    def workloads(self) -> list[WorkloadName]:
        """What is to be read by at least one of the consumers."""
        return sorted({workload_of(consumer) for consumer in self.consumers})


async def measure_latency(bench: Bench, plan: LatencyPlan, say: Say) -> Latency:
    """Offer records to each consumer in turn, every round anew.

    Raises:
        CountsWrong: a record was lost, doubled or reordered.
    """
    capacity = await _capacities(bench, plan, say) if plan.rate is None else {}
    rates = {name: _rate(plan, capacity, name) for name in plan.consumers}
    for workload in plan.workloads:
        fastest = max(rates[name] for name in plan.consumers if workload_of(name) == workload)
        say(f"making {round(fastest * plan.seconds):,} {workload}")
        await bench.prepare(workload, round(fastest * plan.seconds), plan.seed)
    rounds: dict[str, list[LatencyRound]] = {name: [] for name in plan.consumers}
    for number, consumer in interleaved(plan.consumers, plan.rounds):
        rate, stream = rates[consumer], _stream(number, consumer)
        say(f"latency at {rate:,.0f}/s, round {number} of {plan.rounds}: {consumer}")
        count = round(rate * plan.seconds)
        async with bench.consumer(consumer, stream, count) as running:
            offered = await bench.offer(stream, workload_of(consumer), count, rate)
            consumed = await running.finish()
        check(consumer, _published(offered), consumed)
        rounds[consumer].append(latency_round(offered, consumed, plan.warm_up))
        await bench.delete(stream)
    return Latency(
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        shards=plan.shards,
        poll_interval=plan.poll_interval,
        share=plan.share if plan.rate is None else None,
        capacity=capacity,
        rounds=rounds,
    )


def latency_round(offered: Offered, consumed: Consumed, warm_up: float) -> LatencyRound:
    """Return the figures of a run that was checked: each record done once, each shard in order.

    Raises:
        ValueError: no record lies after the warm-up.
    """
    histogram = LatencyHistogram()
    batches: dict[str, list[DoneBatch]] = {}
    for batch in consumed.batches:
        batches.setdefault(batch.shard, []).append(batch)
    begin = offered.started + warm_up - _ROUNDING_S
    for shard, load in offered.shards.items():
        for due, done, count in _pairs(load, batches[shard]):
            if due >= begin:
                # Done before it is due would be a fault of the clocks; HDR refuses it.
                histogram.record((done - due) * 1000, count)
    took = max(batch.at for batch in consumed.batches) - offered.started
    return LatencyRound(
        offered=offered.rate,
        sent=offered.sent_rate,
        achieved=offered.count / took,
        reached=took <= offered.count / offered.rate * (1 + _SLACK_SHARE) + _SLACK_S,
        late_ms=offered.late * 1000,
        samples=histogram.count,
        p50_ms=histogram.percentile(50),
        p90_ms=histogram.percentile(90),
        p99_ms=histogram.percentile(99),
        p999_ms=histogram.percentile(99.9),
        max_ms=histogram.most,
        consumer_share=consumed.reading.own_share,
        histogram=histogram.encode(),
    )


async def _capacities(bench: Bench, plan: LatencyPlan, say: Say) -> dict[str, list[Capacity]]:
    filled: dict[WorkloadName, Published] = {}
    for workload in plan.workloads:
        say(f"filling a stream with {plan.capacity_records:,} {workload}, to measure capacity")
        filled[workload] = await bench.load(
            _filled(workload), workload, plan.capacity_records, plan.seed
        )
    found: dict[str, list[Capacity]] = {name: [] for name in plan.consumers}
    for number, consumer in interleaved(plan.consumers, plan.capacity_rounds):
        say(f"capacity, round {number} of {plan.capacity_rounds}: {consumer}")
        workload = workload_of(consumer)
        async with bench.consumer(consumer, _filled(workload), plan.capacity_records) as running:
            consumed = await running.finish()
        check(consumer, filled[workload], consumed)
        found[consumer].append(
            Capacity(
                records_per_second=consumed.records / consumed.reading.wall,
                bottleneck=consumed.reading.bottleneck,
            )
        )
    for workload in plan.workloads:
        await bench.delete(_filled(workload))
    return found


def _rate(plan: LatencyPlan, capacity: dict[str, list[Capacity]], consumer: ConsumerName) -> float:
    if plan.rate is not None:
        return plan.rate
    return plan.share * spread([one.records_per_second for one in capacity[consumer]]).median


def _published(offered: Offered) -> Published:
    shards = {shard: load.sequences() for shard, load in offered.shards.items()}
    return Published(shards=shards, mean_bytes=0.0)


def _pairs(load: ShardLoad, batches: Sequence[DoneBatch]) -> Iterator[tuple[float, float, int]]:
    """Yield (due, done, records that have both in common), in the order of the shard."""
    done = iter(batches)
    batch = next(done)
    left = len(batch.sequences)
    for due, count in load.groups:
        while count:
            while not left:
                batch = next(done)
                left = len(batch.sequences)
            both = min(count, left)
            yield due, batch.at, both
            count, left = count - both, left - both


def _filled(workload: WorkloadName) -> str:
    return f"capacity-{workload}"


def _stream(number: int, consumer: ConsumerName) -> str:
    return f"live-{consumer}-{number}"
