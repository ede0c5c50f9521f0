"""How the rate grows with worker processes: one, then more of them, each on a core of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from rich.console import Console

from streamproc_benchmarks.charts import Chart, SpreadChart
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.load import LoadSpec, Published
from streamproc_benchmarks.measurement import cpu_seconds
from streamproc_benchmarks.processes import Child, start_child
from streamproc_benchmarks.rounds import Say, interleaved
from streamproc_benchmarks.scaling_worker import (
    Account,
    Begin,
    Committed,
    Holding,
    ScalingWorkerSpec,
)
from streamproc_benchmarks.server import Servers, ServerSpec, redis_version
from streamproc_benchmarks.tables import new_table, show_spread
from streamproc_benchmarks.verification import verify
from streamproc_benchmarks.workloads import WorkloadName

__all__ = [
    "ProcessorName",
    "Scaling",
    "ScalingPlan",
    "ScalingRound",
    "measure_scaling",
    "print_scaling",
]

ProcessorName = Literal["computing", "fraud", "inventory", "noop"]

_STREAM: Final = "scaling"
_START_S: Final = 60.0
# Between these shares of the records the clocks run: every worker has begun, none is done.
_WINDOW: Final = (0.15, 0.80)
_NEAR_LINEAR: Final = 0.9
_BUSY: Final = 0.85
# Of the workers' cores all together: servers on them that take no more lower an efficiency by no
# more, so one that reaches the bar all the same has reached it.
_LITTLE: Final = 0.05
_WORKLOADS: Final[dict[ProcessorName, WorkloadName]] = {
    "computing": "events",
    "fraud": "payments",
    "inventory": "orders",
    "noop": "events",
}


class ScalingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `records` for each worker, 1 to `workers` of them, with one processor."""

    processor: ProcessorName
    workers: int
    records: int
    rounds: int
    shards: int
    seed: int
    limit: float


class ScalingRound(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        rate: records a second by the clock, all workers together.
        cpu_us: CPU time of the workers for a record, in microseconds.
        worker_cores: cores that the workers used, all together.
        server_cores: cores that LocalKinesis and Redis used meanwhile; None where it is not told.
    """

    rate: float
    cpu_us: float
    worker_cores: float
    server_cores: float | None


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Every round by number of workers, and whether the servers had cores of their own."""

    plan: ScalingPlan
    servers_apart: bool
    rounds: dict[int, list[ScalingRound]]

    def efficiency(self, workers: int) -> list[float]:
        """Return the rate against as many times that of one worker, round by round."""
        return [
            many.rate / (workers * one.rate)
            for many, one in zip(self.rounds[workers], self.rounds[1], strict=True)
        ]

    def figures(self) -> list[Figure]:
        """Rate and CPU time by number of workers, and the efficiency of each but one."""
        prefix = f"scaling.{self.plan.processor}"
        found = [
            Figure(
                name=f"{prefix}.{workers}.{name}",
                unit=unit,
                better=better,
                values=[getattr(each, name) for each in rounds],
                caveat=self._caveat,
            )
            for workers, rounds in self.rounds.items()
            for name, unit, better in _FIGURES
        ]
        found += [
            Figure(
                name=f"{prefix}.{workers}.efficiency",
                unit="",
                better="more",
                values=self.efficiency(workers),
                caveat=self._caveat,
            )
            for workers in self.rounds
            if workers > 1
        ]
        return found

    def bars(self) -> list[Bar]:
        """That two workers do nearly what one does, twice.

        Judged where the servers have a core of their own, or take next to nothing of the workers'.
        """
        if 2 not in self.rounds:
            return []
        return [
            Bar(
                what=f"{self.plan.processor}: 2 workers / 2 x one worker",
                better="more",
                limit=_NEAR_LINEAR,
                values=self.efficiency(2),
                unjudged=self._caveat,
            )
        ]

    def charts(self) -> list[Chart]:
        """Return the rates by number of workers."""
        rows = {f"{n} workers": [each.rate for each in runs] for n, runs in self.rounds.items()}
        title = f"Rate by worker processes, {self.plan.processor}"
        return [SpreadChart(title=title, unit="records/s", rows=rows)]

    def caveats(self) -> list[str]:
        """Say what the servers took of the workers' cores, and whether others took more."""
        found = [] if self.servers_apart else [f"{self._sharing}."]
        busy = min(
            each.worker_cores / workers for workers, runs in self.rounds.items() for each in runs
        )
        if busy < _BUSY:
            found.append(
                f"A worker used {busy:.0%} of its core in one of the runs: it waited, for others "
                "that use the cores or for the servers."
            )
        return found

    @property
    def _shares(self) -> list[float]:
        """Cores that the servers took while most workers ran, in each round that tells."""
        told = [each.server_cores for each in self.rounds[max(self.rounds)]]
        return [] if None in told else [share for share in told if share is not None]

    @property
    def _sharing(self) -> str:
        most = max(self.rounds)
        took = f", of which they took {max(self._shares):.0%} of a core" if self._shares else ""
        return f"LocalKinesis and Redis share the cores of the {most} workers{took}"

    @property
    def _caveat(self) -> str:
        little = self._shares and max(self._shares) <= _LITTLE * max(self.rounds)
        return "" if self.servers_apart or little else self._sharing


_FIGURES: Final[tuple[tuple[str, str, Literal["more", "less"]], ...]] = (
    ("rate", "records/s", "more"),
    ("cpu_us", "us", "less"),
)


async def measure_scaling(
    plan: ScalingPlan, settings: dict[str, Any], say: Say
) -> tuple[Environment, Scaling]:
    """Run each number of workers in turn, round by round.

    Raises:
        CountsWrong: a record was lost, doubled or reordered.
        ChildFailed: a process ended, or said nothing.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    enough = len(cores) >= plan.workers
    own = cores[-plan.workers :] if enough else []
    apart = cores[: -plan.workers] if enough else []
    note = f"workers pinned to cores {own}" if own else "not pinned: fewer cores than workers"
    note += f", servers to core {apart[0]}" if apart else ", servers and load on the workers' cores"
    rounds: dict[int, list[ScalingRound]] = {n: [] for n in range(1, plan.workers + 1)}
    version = ""
    for number, workers in interleaved(list(rounds), plan.rounds):
        run = _Run(plan, workers, own, apart[0] if apart else None, settings)
        found, version = await run.measure(plan.seed)
        rounds[workers].append(found)
        say(f"round {number}, {workers} workers: {found.rate:,.0f} records/s")
    environment = read_environment(redis_server=version, pinning=note)
    return environment, Scaling(plan=plan, servers_apart=bool(apart), rounds=rounds)


def print_scaling(result: Scaling, console: Console) -> None:
    """Print it."""
    table = new_table(
        f"Worker processes on one stream of {result.plan.shards} shards, {result.plan.processor}",
        ["records/s", "x one", "efficiency", "CPU us/record", "workers' cores", "servers' cores"],
        subject="workers",
    )
    for workers, runs in result.rounds.items():
        efficiency = result.efficiency(workers)
        servers = [each.server_cores for each in runs if each.server_cores is not None]
        table.add_row(
            str(workers),
            show_spread([each.rate for each in runs], ",.0f"),
            show_spread([each * workers for each in efficiency], ".2f"),
            show_spread(efficiency, ".2f"),
            show_spread([each.cpu_us for each in runs], ".1f"),
            show_spread([each.worker_cores for each in runs], ".2f"),
            show_spread(servers, ".2f") if servers else "?",
        )
    console.print(table)


class _Run:
    """One run: workers share the shards evenly, the stream is filled, and then they begin."""

    def __init__(
        self,
        plan: ScalingPlan,
        workers: int,
        cores: Sequence[int],
        server_core: int | None,
        settings: dict[str, Any],
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._cores = cores
        self._server_core = server_core
        self._settings = settings
        self._states: dict[int, Holding] = {}
        self._samples: list[tuple[float, float]] = []

    async def measure(self, seed: int) -> tuple[ScalingRound, str]:
        """Return what was measured, and the version of the Redis server."""
        count = self._plan.records * self._workers
        with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as directory:
            spec = ServerSpec(self._server_core, {_STREAM: self._plan.shards})
            async with start_child("server", spec) as server:
                servers = msgspec.json.decode(await server.line(_START_S), type=Servers)
                version = await redis_version(servers.redis_url)
                results = [Path(directory) / f"{n}.account" for n in range(self._workers)]
                async with self._running(servers, results) as workers:
                    await self._until(self._is_even, servers)
                    published = await self._load(servers, count, seed, Path(directory))
                    for worker in workers:
                        await worker.tell(Begin(count))
                    await self._until(lambda: self._records >= count, servers)
            accounts = [msgspec.msgpack.decode(each.read_bytes(), type=Account) for each in results]
        self._verify(published, accounts)
        return _evaluated([account.batches for account in accounts], self._samples), version

    @contextlib.asynccontextmanager
    async def _running(
        self, servers: Servers, results: Sequence[Path]
    ) -> AsyncIterator[Sequence[Child]]:
        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            readers, children = [], []
            for number, result in enumerate(results):
                spec = ScalingWorkerSpec(
                    core=self._cores[number] if self._cores else None,
                    endpoint_url=servers.endpoint_url,
                    redis_url=servers.redis_url,
                    stream=_STREAM,
                    processor=self._plan.processor,
                    result=str(result),
                    settings=self._settings,
                )
                child = await stack.enter_async_context(start_child("scaling_worker", spec))
                children.append(child)
                readers.append(tasks.create_task(self._listen(number, child)))
            try:
                yield children
            finally:
                for reader in readers:
                    reader.cancel()

    async def _listen(self, number: int, child: Child) -> None:
        while True:
            line = await child.line(_START_S)
            self._states[number] = msgspec.json.decode(line, type=Holding)

    async def _until(self, holds: Callable[[], bool], servers: Servers) -> None:
        async with asyncio.timeout(self._plan.limit):
            while not holds():
                server, redis = cpu_seconds(servers.server_pid), cpu_seconds(servers.redis_pid)
                if server is not None and redis is not None:
                    self._samples.append((time.monotonic(), server + redis))
                await asyncio.sleep(0.05)

    def _is_even(self) -> bool:
        held = sorted(state.shards for state in self._states.values())
        return (
            len(held) == self._workers
            and sum(held) == self._plan.shards
            and held[-1] - held[0] <= 1
        )

    @property
    def _records(self) -> int:
        return sum(state.records for state in self._states.values())

    async def _load(self, servers: Servers, count: int, seed: int, directory: Path) -> Published:
        result = directory / "published"
        spec = LoadSpec(
            core=self._server_core,
            endpoint_url=servers.endpoint_url,
            stream=_STREAM,
            workload=_WORKLOADS[self._plan.processor],
            count=count,
            seed=seed,
            result=str(result),
        )
        async with start_child("load", spec) as child:
            await child.line(self._plan.limit)
        return msgspec.msgpack.decode(result.read_bytes(), type=Published)

    def _verify(self, published: Published, accounts: Sequence[Account]) -> None:
        consumed: dict[str, list[str]] = {}
        batches = itertools.chain.from_iterable(account.batches for account in accounts)
        for batch in sorted(batches, key=lambda each: each.at):
            consumed.setdefault(batch.shard, []).extend(batch.sequences)
        verdict = verify(published.shards, consumed)
        verdict.require_clean(f"{self._workers} workers")


def _evaluated(
    workers: Sequence[Sequence[Committed]], samples: Sequence[tuple[float, float]]
) -> ScalingRound:
    """Return what lies between the shares of the records at which the clocks start and stop."""
    moments = sorted((each.at, len(each.sequences)) for batches in workers for each in batches)
    total, done = sum(size for _, size in moments), 0
    marks: list[tuple[float, int]] = []
    for at, size in moments:
        done += size
        if len(marks) < len(_WINDOW) and done >= _WINDOW[len(marks)] * total:
            marks.append((at, done))
    (start, before), (end, after) = marks
    took, records = end - start, after - before
    used = sum(_at(batches, end) - _at(batches, start) for batches in workers)
    servers = None
    if samples:
        servers = (_sampled(samples, end) - _sampled(samples, start)) / took
    return ScalingRound(
        rate=records / took,
        cpu_us=used / records * 1e6,
        worker_cores=used / took,
        server_cores=servers,
    )


def _at(batches: Sequence[Committed], moment: float) -> float:
    """Return the CPU time of a worker at its last commit before a moment."""
    place = bisect_right(batches, moment, key=lambda each: each.at)
    return batches[max(0, place - 1)].cpu


def _sampled(samples: Sequence[tuple[float, float]], moment: float) -> float:
    place = bisect_right(samples, moment, key=lambda each: each[0])
    return samples[max(0, place - 1)][1]
