"""Throughput: a stream filled before, read by one consumer after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.peers.installation import Installer, PeerName, Prepared, Unavailable
from streamproc_benchmarks.processes import ChildFailed
from streamproc_benchmarks.progress import Consumed
from streamproc_benchmarks.rounds import Say, interleaved
from streamproc_benchmarks.runs import Bench, check, workload_of
from streamproc_benchmarks.throughput import Throughput, ThroughputRound
from streamproc_benchmarks.verification import CountsWrong, Verdict
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["ThroughputPlan", "measure_throughput", "throughput_round"]

# The end of what a process wrote says why it ended.
_REASON_SHOWN: Final = 400


class ThroughputPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to read, how often, by whom.

    Attributes:
        against: peers to take turns with the consumers.
        margin: share of the records at either end of a run that the clocks leave out.
    """

    consumers: Sequence[ConsumerName]
    against: Sequence[PeerName] = ()
    records: int
    margin: float = 0.2
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
        return sorted({workload_of(name) for name in (*self.consumers, *self.against)})


async def measure_throughput(
    bench: Bench, plan: ThroughputPlan, say: Say, installer: Installer | None = None
) -> Throughput:
    """Have each consumer read the same records once in every round, one after another.

    A peer that cannot be had, or that fails, is left out and reported with the reason.
    """
    prepared, not_run = await _prepare(plan.against, installer or Installer(say))
    bench.peers = prepared
    filled: dict[WorkloadName, Published] = {}
    for workload in plan.workloads:
        say(f"filling the stream of {workload}: {plan.records:,} records")
        filled[workload] = await bench.load(f"filled-{workload}", workload, plan.records, plan.seed)
    peers = [peer for peer in plan.against if peer in prepared]
    names: list[ConsumerName | PeerName] = [*plan.consumers, *peers]
    rounds: dict[str, list[ThroughputRound]] = {name: [] for name in names}
    for number, consumer in interleaved(names, plan.rounds):
        if consumer in not_run:
            continue
        say(f"throughput, round {number} of {plan.rounds}: {consumer}")
        published = filled[workload_of(consumer)]
        try:
            rounds[consumer].append(await _run(bench, plan, consumer, published))
        except (ChildFailed, CountsWrong) as failure:
            if consumer not in prepared:
                raise
            say(f"{consumer}: {failure}")
            shown = " ".join(str(failure).split())[-_REASON_SHOWN:]
            not_run[consumer] = f"failed in round {number}: {shown}"
            del rounds[consumer]
    return Throughput(
        records=plan.records,
        shards=plan.shards,
        margin=plan.margin,
        event_bytes={name: published.mean_bytes for name, published in filled.items()},
        rounds=rounds,
        peers={name: peer.described for name, peer in prepared.items()},
        not_run=not_run,
    )


async def _prepare(
    against: Sequence[PeerName], installer: Installer
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Return the peers that can be run, and for the others why not."""
    prepared: dict[str, Prepared] = {}
    not_run: dict[str, str] = {}
    for peer in against:
        try:
            prepared[peer] = await installer.prepare(peer)
        except Unavailable as reason:
            not_run[peer] = str(reason)
    return prepared, not_run


async def _run(
    bench: Bench, plan: ThroughputPlan, consumer: ConsumerName | PeerName, published: Published
) -> ThroughputRound:
    stream = f"filled-{workload_of(consumer)}"
    async with bench.consumer(consumer, stream, plan.records, margin=plan.margin) as running:
        consumed = await running.finish()
    return throughput_round(consumed, check(consumer, published, consumed))


def throughput_round(consumed: Consumed, verdict: Verdict) -> ThroughputRound:
    """Return the figures of a run that was checked."""
    taken, records = consumed.reading, consumed.records
    return ThroughputRound(
        records=records,
        records_per_cpu_second=records / taken.own,
        records_per_second=records / taken.wall,
        cpu_us_per_record=taken.own / records * 1e6,
        consumer_share=taken.own_share,
        delayed_share=taken.delayed_share,
        load_share=taken.load_share,
        bottleneck=taken.bottleneck,
        emitted=consumed.counters.get("emitted", 0),
        batches=len(consumed.batches),
        lost=verdict.lost,
        duplicated=verdict.duplicated,
        reordered=verdict.reordered,
        unknown=verdict.unknown,
    )
