"""How long a record takes under a steady load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.results import Latency, LatencyRound, latency_round
from streamproc_benchmarks.rounds import Say, interleaved
from streamproc_benchmarks.runs import Bench, check, workload_of

__all__ = ["LatencyPlan", "measure_latency"]


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
        return {_stream(run): self.shards for run in interleaved(self.consumers, self.rounds)}


async def measure_latency(bench: Bench, plan: LatencyPlan, say: Say) -> Latency:
    """Offer records at the plan's rate to each consumer in turn, every round anew."""
    count = round(plan.rate * plan.seconds)
    rounds: dict[str, list[LatencyRound]] = {name: [] for name in plan.consumers}
    for run in interleaved(plan.consumers, plan.rounds):
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


def _stream(run: tuple[int, Any]) -> str:
    number, consumer = run
    return f"live-{consumer}-{number}"
