"""Throughput: streams filled before, read by consumers that take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from streamproc_benchmarks.consumer import ConsumerName
from streamproc_benchmarks.load import Published
from streamproc_benchmarks.peers.installation import Installer, PeerName, Prepared, Unavailable
from streamproc_benchmarks.processes import ChildFailed
from streamproc_benchmarks.progress import Consumed
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.runs import Bench, RunningConsumer, check, workload_of
from streamproc_benchmarks.throughput import Throughput, ThroughputRound
from streamproc_benchmarks.verification import CountsWrong, Verdict

__all__ = ["ThroughputPlan", "measure_throughput", "throughput_round"]

# The end of what a process wrote says why it ended.
_REASON_SHOWN: Final = 400

# A JVM compiles and collects in threads of its own. Nobody has shown that stopping it every 10,000
# records is fair to it, so it has all of them in one turn.
_ONE_TURN: Final = frozenset({"kcl"})


class ThroughputPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to read, how often, by whom.

    Attributes:
        against: peers to take turns with the consumers.
        margin: share of the records at either end of a run that the clocks leave out.
        turn: records of a turn. A turn of all takes a second or two, so that a moment in which the
            host is slow is one for all of them; and no lease and no timeout runs out in it.
    """

    consumers: Sequence[ConsumerName]
    against: Sequence[PeerName] = ()
    records: int
    margin: float = 0.2
    turn: int = 10_000
    rounds: int
    shards: int
    seed: int

    @property
    def names(self) -> list[ConsumerName | PeerName]:
        """Everybody who is to read."""
        return [*self.consumers, *self.against]


async def measure_throughput(
    benches: Mapping[ConsumerName | PeerName, Bench],
    plan: ThroughputPlan,
    say: Say,
    installer: Installer | None = None,
) -> Throughput:
    """Have each consumer read the same records once in every round, all of them in turns.

    Whoever is not at turn stands still, and the servers, which everybody has for himself, stand
    still with him: so nothing is done for a consumer while its clocks do not count it. A peer that
    cannot be had, or that fails, is left out and reported with the reason.

    Args:
        benches: servers for each of `plan.names`.
        plan: what to do.
        say: is told what is being done.
        installer: where peers come from.
    """
    prepared, not_run = await _prepare(plan.against, installer or Installer(say))
    names = [name for name in plan.names if name not in not_run]
    filled: dict[ConsumerName | PeerName, Published] = {}
    for name in names:
        benches[name].peers = prepared
        workload = workload_of(name)
        say(f"filling the stream of {name}: {plan.records:,} {workload}")
        filled[name] = await benches[name].load(workload, workload, plan.records, plan.seed)
    rounds: dict[str, list[ThroughputRound]] = {name: [] for name in names}
    for number in range(1, plan.rounds + 1):
        say(f"throughput, round {number} of {plan.rounds}: {', '.join(rounds)}")
        reading = [name for name in names if name in rounds]
        for name, found in (await _take_turns(benches, plan, reading)).items():
            try:
                if isinstance(found, ChildFailed):
                    raise found
                rounds[name].append(throughput_round(found, check(name, filled[name], found)))
            except (ChildFailed, CountsWrong) as failure:
                if name not in prepared:
                    raise
                say(f"{name}: {failure}")
                shown = " ".join(str(failure).split())[-_REASON_SHOWN:]
                not_run[name] = f"failed in round {number}: {shown}"
                del rounds[name]
    return Throughput(
        records=plan.records,
        shards=plan.shards,
        margin=plan.margin,
        event_bytes={workload_of(name): each.mean_bytes for name, each in filled.items()},
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


async def _take_turns(
    benches: Mapping[ConsumerName | PeerName, Bench],
    plan: ThroughputPlan,
    names: Sequence[ConsumerName | PeerName],
) -> dict[ConsumerName | PeerName, Consumed | ChildFailed]:
    """Have each read everything, in turns; return what each did, or how it failed."""
    ended: dict[ConsumerName | PeerName, Consumed | ChildFailed] = {}
    reading: dict[ConsumerName | PeerName, RunningConsumer] = {}
    async with AsyncExitStack() as stack:
        while len(ended) < len(names):
            for name in names:
                if name in ended:
                    continue
                try:
                    if name not in reading:
                        reading[name] = await stack.enter_async_context(
                            benches[name].consumer(
                                *(name, workload_of(name), plan.records),
                                margin=plan.margin,
                                turn=None if name in _ONE_TURN else plan.turn,
                            )
                        )
                    if not await reading[name].take_turn():
                        ended[name] = await reading[name].finish()
                except ChildFailed as failure:
                    ended[name] = failure
    return ended


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
