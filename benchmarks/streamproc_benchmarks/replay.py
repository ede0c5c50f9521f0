"""Hours of events through one worker, as fast as it goes: does its memory stay?"""

from __future__ import annotations

import itertools
import tempfile
from typing import Any, Final

import msgspec
from rich.console import Console

from streamproc_benchmarks.charts import Chart, LineChart
from streamproc_benchmarks.effects import Effects
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.memory import Growth, Memory
from streamproc_benchmarks.pinning import choose_cores
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.soak import (
    flat_bar,
    memory_chart,
    played,
    require_effects,
    soak_figure,
    verdict,
)
from streamproc_benchmarks.soak_run import ReplayRun, ReplaySpec
from streamproc_benchmarks.statistics import thinned
from streamproc_benchmarks.tables import new_table

__all__ = ["Replay", "ReplayPlan", "measure_replay", "print_replay"]

_FULL_HOURS: Final = 8.0
_STARVED_SHARE: Final = 0.1
_RATES_DRAWN: Final = 100


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
            soak_figure("replay.peak_mb", "MB", self.memory.peak_mb, caveat),
            soak_figure("replay.grown_mb", "MB", self.growth.grown_mb, caveat),
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
        return [flat_bar(f"replay of {self.hours:g} h of events", self.growth)]

    def charts(self) -> list[Chart]:
        """Draw memory and rate over time."""
        memory = self.memory
        rows = thinned(list(zip(memory.at, memory.committed, strict=True)), _RATES_DRAWN)
        rates = [
            (after[0], (after[1] - before[1]) / (after[0] - before[0]))
            for before, after in itertools.pairwise(rows)
            if after[0] > before[0]
        ]
        return [
            memory_chart("Memory over a replay", memory, {}),
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
        found = await played(spec, ReplayRun, plan.limit)
    require_effects("replay", found.effects, found.committed)
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
        f"{verdict(found.growth)} LocalKinesis took {found.server_mb:,.0f} MB at most: what is "
        "committed is forgotten there."
    )
    console.print(
        f"All {found.effects.published:,} records took effect once and in their key's order."
    )
