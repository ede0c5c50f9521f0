"""Whether a worker's memory stays where it is: far over its capacity, and over hours of events."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from rich.console import Console

from streamproc.config import ReadConfig
from streamproc.kinesis.codec import decode_get_records
from streamproc.testing.localkinesis import LocalKinesisCore
from streamproc.testing.localkinesis.prepared import PreparedStream
from streamproc_benchmarks.charts import Chart, LineChart
from streamproc_benchmarks.effects import Effects, Steps
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.memory import Growth, Memory
from streamproc_benchmarks.pinning import choose_cores
from streamproc_benchmarks.processes import start_child
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.soak_run import (
    CapacityRun,
    CapacitySpec,
    OverloadRun,
    OverloadSpec,
    ReplayRun,
    ReplaySpec,
)
from streamproc_benchmarks.statistics import thinned
from streamproc_benchmarks.tables import new_table
from streamproc_benchmarks.verification import CountsWrong

__all__ = [
    "Overload",
    "OverloadPlan",
    "Replay",
    "ReplayPlan",
    "decoded_share",
    "measure_overload",
    "measure_replay",
    "print_overload",
    "print_replay",
    "required_effects",
]

T = TypeVar("T")

_START_S: Final = 180.0
_FULL_SECONDS: Final = 300.0
_FULL_HOURS: Final = 8.0
_SENT_SHARE: Final = 0.98
_STARVED_SHARE: Final = 0.1
_DRAWN: Final = 1_000
# An answer is up to 10 MB of data, which base64 makes a third longer. While one is decoded, its
# parts, the whole of them and the records are there at once; only the latter are in the budget.
_ANSWER_BYTES: Final = 14 * 1024 * 1024
_UNDECODED: Final = 2
# Memory is handed out in multiples of this on 64-bit platforms.
_GRAIN: Final = 16


class OverloadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How far over its capacity, and for how long.

    Attributes:
        factor: times what the worker can do.
        seconds: for which it is offered.
        service: seconds that each of the worker's handlers waits, which makes its capacity small:
            the server has to keep in memory what it does not do.
        capacity_seconds: how long its capacity is measured.
        settings: dotted settings of the worker that differ from the defaults.
    """

    factor: float
    seconds: float
    service: float
    capacity_seconds: float
    shards: int
    seed: int
    settings: dict[str, Any] = {}


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was offered many times what it can do.

    Attributes:
        capacity: records a second that it committed with more than enough before it.
        offered, sent: records a second during the overload; `seconds` long.
        committed_rate: records a second that it committed meanwhile.
        base_mb: its memory before the overload, after some full batches.
        prefetch_bytes: what it may read ahead.
        decoded: memory that decoded records take, by their bytes on the wire, which is what the
            budget counts.
        bound_mb: base, prefetch times `decoded`, and two undecoded answers: the most it may take.
        memory: over time.
        growth: of it, after the first third.
        server_mb: the most memory that LocalKinesis took.
    """

    capacity: float
    offered: float
    sent: float
    committed_rate: float
    seconds: float
    base_mb: float
    prefetch_bytes: int
    decoded: float
    bound_mb: float
    effects: Effects
    memory: Memory
    growth: Growth
    server_mb: float

    def figures(self) -> list[Figure]:
        """Peak and growth of memory, and what was done."""
        caveat = " ".join(self.caveats())
        return [
            _figure("overload.peak_mb", "MB", self.memory.peak_mb, caveat),
            _figure("overload.grown_mb", "MB", self.growth.grown_mb, caveat),
        ]

    def bars(self) -> list[Bar]:
        """Memory within its bound, and flat; if it was long enough."""
        if self.seconds < _FULL_SECONDS:
            return []
        what = f"worker at {self.offered / self.capacity:.0f} times its capacity"
        return [
            Bar(
                what=f"{what}: peak memory (base, prefetch, two answers)",
                better="less",
                limit=self.bound_mb,
                unit="MB",
                values=[self.memory.peak_mb],
                unjudged=self._not_sent(),
            ),
            _flat(what, self.growth, self._not_sent()),
        ]

    def charts(self) -> list[Chart]:
        """Draw memory over time below its bound, and how far behind the worker fell."""
        return [
            _memory_chart("Memory far over capacity", self.memory, {"bound": self.bound_mb}),
            LineChart(
                title="Records far over capacity",
                unit="million records",
                lines={
                    "published": _line(self.memory.at, self.memory.published, 1e-6),
                    "committed": _line(self.memory.at, self.memory.committed, 1e-6),
                },
            ),
        ]

    def caveats(self) -> list[str]:
        """Say where the load was not what it was to be, and where no bar was set."""
        notes = [self._not_sent()] if self._not_sent() else []
        if self.seconds < _FULL_SECONDS:
            notes.append(
                f"The bars are set for {_FULL_SECONDS:g} s over capacity; here are "
                f"{self.seconds:g} s."
            )
        return notes

    def _not_sent(self) -> str:
        if self.sent >= _SENT_SHARE * self.offered:
            return ""
        return f"Of the offered {self.offered:,.0f}/s only {self.sent:,.0f}/s were sent."


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many hours of events.

    Attributes:
        hours: of event time.
        per_second: events in a second of it.
        ahead: records that are kept ready for the worker; what it has committed is forgotten.
        limit: seconds after which it is given up.
        settings: dotted settings of the worker that differ from the defaults.
    """

    hours: float
    per_second: float
    ahead: int
    limit: float
    shards: int
    seed: int
    settings: dict[str, Any] = {}

    @property
    def events(self) -> int:
        """How many events there are."""
        return max(1, round(self.hours * 3600 * self.per_second))


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of events through one worker, as fast as it goes.

    Attributes:
        took: seconds from the first record to the last commit.
        starved: share of that time in which the worker had next to nothing before it.
        worker_share: how busy the worker's core was with it, 0 to 1; None if unknown.
        server_share: how busy LocalKinesis and the load were.
        collections: of the worker's garbage collector, by generation.
        memory: the worker's, over time.
        growth: of it, after the first third.
        server_mb: the most memory that LocalKinesis took.
    """

    hours: float
    events: int
    took: float
    starved: float
    worker_share: float | None
    server_share: float
    collections: list[int]
    effects: Effects
    memory: Memory
    growth: Growth
    server_mb: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.took

    def figures(self) -> list[Figure]:
        """Peak and growth of memory, and the rate."""
        caveat = " ".join(self.caveats())
        return [
            _figure("replay.peak_mb", "MB", self.memory.peak_mb, caveat),
            _figure("replay.grown_mb", "MB", self.growth.grown_mb, caveat),
            Figure(
                name="soak.replay.records_per_second",
                unit="records/s",
                better="more",
                values=[self.rate],
                caveat=caveat,
            ),
        ]

    def bars(self) -> list[Bar]:
        """Memory that is flat; if it was long enough."""
        if self.hours < _FULL_HOURS:
            return []
        return [_flat(f"replay of {self.hours:g} h of events", self.growth)]

    def charts(self) -> list[Chart]:
        """Draw memory and rate over time."""
        memory = self.memory
        rows = thinned(list(zip(memory.at, memory.committed, strict=True)), _DRAWN // 10)
        rates = [
            (after[0], (after[1] - before[1]) / (after[0] - before[0]))
            for before, after in itertools.pairwise(rows)
            if after[0] > before[0]
        ]
        return [
            _memory_chart("Memory over a replay", memory, {}),
            LineChart(title="Rate over a replay", unit="records per second", lines={"rate": rates}),
        ]

    def caveats(self) -> list[str]:
        """Say who set the pace, and where no bar was set."""
        notes = []
        if self.starved > _STARVED_SHARE:
            notes.append(
                f"For {self.starved:.0%} of the time the worker had next to nothing before it: the "
                "load set the pace, the rate is not the worker's."
            )
        if self.hours < _FULL_HOURS:
            notes.append(
                f"The bar is set for {_FULL_HOURS:g} h of events; here are {self.hours:g} h."
            )
        return notes


async def measure_overload(plan: OverloadPlan, say: Say) -> tuple[Environment, Overload]:
    """Measure what a slow worker can do, then offer it a multiple of that.

    Raises:
        CountsWrong: a record's effect was lost, doubled or reordered among those processed.
    """
    cores = choose_cores()
    common: dict[str, Any] = {
        "shards": plan.shards,
        "seed": plan.seed,
        "load_core": cores.load,
        "worker_core": cores.consumer,
        "settings": plan.settings,
    }
    say(f"overload: what a worker can do whose handler waits {plan.service:g} s")
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as directory:
        capacity_spec = CapacitySpec(
            **common,
            result=f"{directory}/capacity",
            service=plan.service,
            seconds=plan.capacity_seconds,
        )
        capacity = (await _played(capacity_spec, CapacityRun, plan.capacity_seconds)).rate
        offered = plan.factor * capacity
        say(
            f"overload: {offered:,.0f} records/s for {plan.seconds:g} s to a worker that does "
            f"{capacity:,.0f}/s"
        )
        spec = OverloadSpec(
            **common,
            result=f"{directory}/overload",
            service=plan.service,
            rate=offered,
            seconds=plan.seconds,
        )
        found = await _played(spec, OverloadRun, plan.seconds)
    required_effects("overload", found.effects, found.committed)
    prefetch = plan.settings.get("read.prefetch_bytes", ReadConfig().prefetch_bytes)
    memory, decoded = found.memory, decoded_share(plan.seed)
    result = Overload(
        capacity=capacity,
        offered=offered,
        sent=found.sent,
        committed_rate=(memory.committed[-1] - memory.committed[0])
        / (memory.at[-1] - memory.at[0]),
        seconds=plan.seconds,
        base_mb=found.base_mb,
        prefetch_bytes=prefetch,
        decoded=decoded,
        bound_mb=found.base_mb + (decoded * prefetch + _UNDECODED * _ANSWER_BYTES) / 1e6,
        effects=found.effects,
        memory=memory,
        growth=memory.growth_from(memory.at[-1] / 3),
        server_mb=found.server_mb,
    )
    return read_environment(redis_server=found.redis_server, pinning=cores.note), result


async def measure_replay(plan: ReplayPlan, say: Say) -> tuple[Environment, Replay]:
    """Let one worker read the events of hours, as fast as it goes.

    Raises:
        CountsWrong: a record's effect was lost, doubled or reordered.
        TooShort: there were too few events to tell anything.
    """
    cores = choose_cores()
    say(f"replay: {plan.events:,} events, {plan.hours:g} h at {plan.per_second:g}/s")
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as directory:
        spec = ReplaySpec(
            shards=plan.shards,
            seed=plan.seed,
            load_core=cores.load,
            worker_core=cores.consumer,
            settings=plan.settings,
            result=f"{directory}/replay",
            events=plan.events,
            per_second=plan.per_second,
            ahead=plan.ahead,
        )
        found = await _played(spec, ReplayRun, plan.limit)
    required_effects("replay", found.effects, found.committed)
    result = Replay(
        hours=plan.hours,
        events=plan.events,
        took=found.took,
        starved=found.starved,
        worker_share=None if found.worker_cpu is None else found.worker_cpu / found.took,
        server_share=found.server_cpu / found.took,
        collections=found.collections,
        effects=found.effects,
        memory=found.memory,
        growth=found.memory.growth_from(found.took / 3),
        server_mb=found.server_mb,
    )
    return read_environment(redis_server=found.redis_server, pinning=cores.note), result


def decoded_share(seed: int) -> float:
    """Return the memory of decoded records by their bytes on the wire, as allocators hand it out.

    Both are counted on an answer of the kind that the worker gets.
    """
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName="s", ShardCount=1)
    PreparedStream(core, "s").append(itertools.islice(Steps(100, seed, 1.0), 1_000))
    begin = core.call(
        "GetShardIterator",
        StreamName="s",
        ShardId="shardId-000000000000",
        ShardIteratorType="TRIM_HORIZON",
    )
    request = {"ShardIterator": begin["ShardIterator"], "Limit": 1_000}
    body = core.handle("GetRecords", msgspec.json.encode(request)).body
    records = decode_get_records(body).records
    parts = [part for record in records for part in (record, *msgspec.structs.astuple(record))]
    # A text or number that several records share would count for each: there is next to none.
    taken = sum(-(-sys.getsizeof(part) // _GRAIN) * _GRAIN for part in parts if part != 0)
    return (taken + sys.getsizeof(records)) / len(body)


def required_effects(what: str, effects: Effects, committed: int) -> None:
    """Let a run pass only if every committed record took effect once and in its key's order.

    Raises:
        CountsWrong: it did not; says how.
    """
    if effects.is_clean and effects.took_effect == committed:
        return
    raise CountsWrong(
        f"{what}: {committed} records committed, {effects.took_effect} took effect; "
        f"{effects.lost} lost, {effects.duplicated} duplicated, {effects.reordered} reordered; "
        "no figure is shown"
    )


def print_overload(found: Overload, console: Console) -> None:
    """Print rates and memory."""
    table = new_table(
        f"Overload: {found.seconds:g} s at {found.offered / found.capacity:.1f} times the capacity",
        ("capacity/s", "offered/s", "sent/s", "committed/s", "base MB", "peak MB", "bound MB"),
        subject="worker",
    )
    table.add_row(
        "slow handler",
        *[
            f"{rate:,.0f}"
            for rate in (found.capacity, found.offered, found.sent, found.committed_rate)
        ],
        *[f"{mb:.1f}" for mb in (found.base_mb, found.memory.peak_mb, found.bound_mb)],
    )
    console.print(table)
    console.print(
        f"Bound: the base, {found.decoded:.2f} times read.prefetch_bytes "
        f"({found.prefetch_bytes / 1e6:.1f} MB; so much more than on the wire a decoded record "
        f"takes), and {_UNDECODED} undecoded answers of {_ANSWER_BYTES / 1e6:.1f} MB. "
        f"{_verdict(found.growth)} LocalKinesis took {found.server_mb:,.0f} MB at most."
    )
    console.print(
        f"Of {found.effects.published:,} records published {found.effects.took_effect:,} were "
        "committed; among these none was lost, doubled or out of its key's order."
    )


def print_replay(found: Replay, console: Console) -> None:
    """Print rate and memory."""
    table = new_table(
        f"Replay: {found.events:,} events, {found.hours:g} h of event time",
        ("took, s", "records/s", "peak MB", "GC of gen. 0/1/2", "worker busy", "load busy"),
        subject="worker",
    )
    table.add_row(
        "keyed state",
        f"{found.took:,.0f}",
        f"{found.rate:,.0f}",
        f"{found.memory.peak_mb:.1f}",
        "/".join(f"{count:,}" for count in found.collections),
        "unknown" if found.worker_share is None else f"{found.worker_share:.0%}",
        f"{found.server_share:.0%}",
    )
    console.print(table)
    console.print(
        f"{_verdict(found.growth)} LocalKinesis took {found.server_mb:,.0f} MB at most: what is "
        "committed is forgotten there."
    )
    console.print(
        f"All {found.effects.published:,} records took effect once and in their key's order."
    )


async def _played(spec: msgspec.Struct, result: type[T], seconds: float) -> T:
    async with start_child("soak_run", spec) as child:
        await child.line(_START_S + seconds)
    path: str = spec.result  # type: ignore[attr-defined]
    return msgspec.msgpack.decode(await asyncio.to_thread(Path(path).read_bytes), type=result)


def _verdict(growth: Growth) -> str:
    return (
        f"After the first third memory {'is flat' if growth.is_flat else 'GROWS'}: the line "
        f"through it rises by {growth.grown_mb:.2f} MB, while it scatters by "
        f"{growth.scatter_mb:.2f} MB."
    )


def _figure(name: str, unit: str, value: float, caveat: str) -> Figure:
    return Figure(name=f"soak.{name}", unit=unit, better="less", values=[value], caveat=caveat)


def _flat(what: str, growth: Growth, unjudged: str = "") -> Bar:
    return Bar(
        what=f"{what}: growth of memory after a third (scatter)",
        better="less",
        limit=growth.scatter_mb,
        unit="MB",
        values=[growth.grown_mb],
        unjudged=unjudged,
    )


def _memory_chart(title: str, memory: Memory, limits: dict[str, float]) -> Chart:
    return LineChart(
        title=title,
        unit="MB",
        lines={"resident memory": _line(memory.at, memory.rss_mb, 1.0)},
        limits=limits,
    )


def _line(at: Sequence[float], values: Sequence[float], scale: float) -> list[tuple[float, float]]:
    scaled = [value * scale for value in values]
    return thinned(list(zip(at, scaled, strict=True)), _DRAWN)
