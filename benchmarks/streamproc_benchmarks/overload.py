"""A worker far over its capacity: does its memory stay within its bound?"""

from __future__ import annotations

import itertools
import sys
import tempfile
from typing import Any, Final

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
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.soak import (
    flat_bar,
    line,
    memory_chart,
    played,
    require_effects,
    soak_figure,
    verdict,
)
from streamproc_benchmarks.soak_run import CapacityRun, CapacitySpec, OverloadRun, OverloadSpec
from streamproc_benchmarks.tables import new_table

__all__ = ["Overload", "OverloadPlan", "decoded_share", "measure_overload", "print_overload"]

_FULL_SECONDS: Final = 300.0
_SENT_SHARE: Final = 0.98
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
            soak_figure("overload.peak_mb", "MB", self.memory.peak_mb, caveat),
            soak_figure("overload.grown_mb", "MB", self.growth.grown_mb, caveat),
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
            flat_bar(what, self.growth, self._not_sent()),
        ]

    def charts(self) -> list[Chart]:
        """Draw memory over time below its bound, and how far behind the worker fell."""
        return [
            memory_chart("Memory far over capacity", self.memory, {"bound": self.bound_mb}),
            LineChart(
                title="Records far over capacity",
                unit="million records",
                lines={
                    "published": line(self.memory.at, self.memory.published, 1e-6),
                    "committed": line(self.memory.at, self.memory.committed, 1e-6),
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
        capacity = (await played(capacity_spec, CapacityRun, plan.capacity_seconds)).rate
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
        found = await played(spec, OverloadRun, plan.seconds)
    require_effects("overload", found.effects, found.committed)
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
        f"{verdict(found.growth)} LocalKinesis took {found.server_mb:,.0f} MB at most."
    )
    console.print(
        f"Of {found.effects.published:,} records published {found.effects.took_effect:,} were "
        "committed; among these none was lost, doubled or out of its key's order."
    )
