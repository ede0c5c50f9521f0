"""The two questions: how much work a record is, and how long it takes under a steady load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.results import (
    Latency,
    LatencyRound,
    Throughput,
    ThroughputRound,
    latency_round,
    throughput_round,
)
from streamproc_benchmarks.runs import Bench, check, workload_of
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["LatencyPlan", "ThroughputPlan", "measure_latency", "measure_throughput"]

Say = Callable[[str], None]


class ThroughputPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to read, how often, by whom."""

    consumers: Sequence[ConsumerName]
    records: int
    rounds: int
    shards: int
    seed: int

    @property
    def streams(self) -> dict[str, int]:
        """The streams it needs: name to number of shards."""
        return {f"filled-{name}": self.shards for name in self.workloads}

    @property
    def workloads(self) -> list[WorkloadName]:
        """What is to be read by at least one of the consumers."""
        return sorted({workload_of(consumer) for consumer in self.consumers})


class LatencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """At which rate (records a second) and for how many seconds, how often, for whom."""

    consumers: Sequence[ConsumerName]
    rate: float
    seconds: float
    warm_up: float
    rounds: int
    shards: int
    seed: int

    @property
    def streams(self) -> dict[str, int]:
        """The streams it needs: each run begins on an empty one."""
        return {_stream(run): self.shards for run in _interleaved(self.consumers, self.rounds)}


async def measure_throughput(bench: Bench, plan: ThroughputPlan, say: Say) -> Throughput:
    """Have each consumer read the same records once in every round, one after another."""
    filled: dict[WorkloadName, Published] = {}
    for workload in plan.workloads:
        say(f"filling the stream of {workload}: {plan.records:,} records")
        filled[workload] = await bench.load(
            f"filled-{workload}", workload, plan.records, plan.seed, None
        )
    rounds: dict[ConsumerName, list[ThroughputRound]] = {name: [] for name in plan.consumers}
    for number, consumer in _interleaved(plan.consumers, plan.rounds):
        say(f"throughput, round {number} of {plan.rounds}: {consumer}")
        workload = workload_of(consumer)
        async with bench.consumer(consumer, f"filled-{workload}", plan.records) as running:
            consumed = await running.finish()
        check(consumer, filled[workload], consumed)
        rounds[consumer].append(throughput_round(consumed))
    return Throughput(
        records=plan.records,
        shards=plan.shards,
        event_bytes={name: published.mean_bytes for name, published in filled.items()},
        rounds=rounds,
    )


async def measure_latency(bench: Bench, plan: LatencyPlan, say: Say) -> Latency:
    """Offer records at the plan's rate to each consumer in turn, every round anew."""
    count = round(plan.rate * plan.seconds)
    rounds: dict[ConsumerName, list[LatencyRound]] = {name: [] for name in plan.consumers}
    for run in _interleaved(plan.consumers, plan.rounds):
        number, consumer = run
        say(f"latency at {plan.rate:,.0f}/s, round {number} of {plan.rounds}: {consumer}")
        stream = _stream(run)
        async with bench.consumer(consumer, stream, count) as running:
            published = await bench.load(stream, workload_of(consumer), count, plan.seed, plan.rate)
            consumed = await running.finish()
        check(consumer, published, consumed)
        rounds[consumer].append(latency_round(published, consumed, plan.rate, plan.warm_up))
    return Latency(
        offered=plan.rate,
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        shards=plan.shards,
        rounds=rounds,
    )


def _interleaved(
    consumers: Sequence[ConsumerName], rounds: int
) -> Iterator[tuple[int, ConsumerName]]:
    """Yield (round, consumer) as A B C A B C, so that slow minutes of the host fall on all."""
    for number in range(1, rounds + 1):
        for consumer in consumers:
            yield number, consumer


def _stream(run: tuple[int, Any]) -> str:
    number, consumer = run
    return f"live-{consumer}-{number}"
