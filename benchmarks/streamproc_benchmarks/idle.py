"""What a worker with many quiet shards costs: CPU, memory, and whether each is still polled."""

from __future__ import annotations

import asyncio
import itertools
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import msgspec
from rich.console import Console

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.config import ReadConfig
from streamproc.kinesis.reader import ShardReader
from streamproc.plugins import load_processors
from streamproc.settings import load_config
from streamproc.worker import Worker
from streamproc_benchmarks.charts import Chart
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.pinning import choose_cores, pin
from streamproc_benchmarks.processes import announce, start_child
from streamproc_benchmarks.server import Servers, ServerSpec, redis_version
from streamproc_benchmarks.statistics import percentile
from streamproc_benchmarks.tables import new_table

__all__ = ["IdleCost", "measure_idle", "print_idle"]

_STREAM: Final = "quiet"
_START_S: Final = 300.0
# Shards count as idle once they were empty that long; here at once, or the wait would be measured.
_IDLE_AFTER_S: Final = 1.0
# What the bars speak of; fewer shards reach them without proving anything.
_BAR_SHARDS: Final = 1_000
_LATE: Final = 1.1
# CPU time is taken by the slice: each has a renewal of every lease in it, by the defaults.
_SLICE_S: Final = 4.0


class IdleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where, how many shards, and for how many seconds to look, after as many to settle."""

    core: int | None
    endpoint_url: str
    redis_url: str
    shards: int
    settle: float
    seconds: float
    settings: dict[str, Any] = {}


class IdleCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker took while nothing happened.

    Attributes:
        shards: shards that it held.
        interval: seconds that an idle shard is to be polled at.
        core_shares: CPU time of the worker's process, all threads, by wall time, in each of equally
            long parts of the look: a host with other work is slow for seconds at a time.
        peak_rss_mb: the most memory that the process ever had, in MB (10^6 bytes).
        polls_per_second: over all shards.
        gap_p50, gap_max: seconds between two polls of a shard, over all shards.
        unpolled: shards that were not polled at all meanwhile.
    """

    shards: int
    interval: float
    seconds: float
    core_shares: list[float]
    peak_rss_mb: float
    polls_per_second: float
    gap_p50: float
    gap_max: float
    unpolled: int

    def figures(self) -> list[Figure]:
        """CPU, memory and the greatest gap."""
        return [
            Figure(name=f"idle.{name}", unit=unit, better="less", values=values)
            for name, unit, values in (
                ("core_percent", "%", self._percent),
                ("peak_rss_mb", "MB", [self.peak_rss_mb]),
                ("gap_max_s", "s", [self.gap_max]),
                ("unpolled", "shards", [self.unpolled]),
            )
        ]

    def bars(self) -> list[Bar]:
        """CPU, memory, and that no shard waited; all of 1,000 shards or more."""
        if self.shards < _BAR_SHARDS:
            return []
        worker = f"worker with {self.shards:,} quiet shards"
        return [
            Bar(what=what, better="less", limit=limit, unit=unit, values=values)
            for what, limit, unit, values in (
                (f"{worker}: CPU", 5.0, "% of a core", self._percent),
                (f"{worker}: peak memory", 150.0, "MB", [self.peak_rss_mb]),
                (f"{worker}: greatest gap / interval", _LATE, "", [self.gap_max / self.interval]),
                (f"{worker}: shards not polled", 0.0, "", [self.unpolled]),
            )
        ]

    @property
    def _percent(self) -> list[float]:
        return [share * 100 for share in self.core_shares]

    def charts(self) -> list[Chart]:
        """Return none: one figure has more than one value."""
        return []

    def caveats(self) -> list[str]:
        """Say for what no bar was set."""
        if self.shards < _BAR_SHARDS:
            return [f"The bars are set for {_BAR_SHARDS:,} quiet shards; here are {self.shards:,}."]
        return []


async def measure_idle(
    shards: int, settle: float, seconds: float, settings: dict[str, Any]
) -> tuple[Environment, IdleCost]:
    """Run a worker with the no-op processor over `shards` empty shards in a process of its own."""
    cores = choose_cores()
    async with start_child("server", ServerSpec(cores.load, {_STREAM: shards})) as server:
        servers = msgspec.json.decode(await server.line(_START_S), type=Servers)
        environment = read_environment(
            redis_server=await redis_version(servers.redis_url), pinning=cores.note
        )
        spec = IdleSpec(
            core=cores.consumer,
            endpoint_url=servers.endpoint_url,
            redis_url=servers.redis_url,
            shards=shards,
            settle=settle,
            seconds=seconds,
            settings=settings,
        )
        async with start_child("idle", spec) as worker:
            line = await worker.line(_START_S + settle + seconds)
    return environment, msgspec.json.decode(line, type=IdleCost)


def print_idle(cost: IdleCost, console: Console) -> None:
    """Print it."""
    table = new_table(
        f"A worker with {cost.shards:,} quiet shards, {cost.seconds:g} s",
        ("of a core", "least - greatest", "peak MB", "polls/s", "gap p50", "gap max", "not polled"),
    )
    table.add_row(
        "noop",
        f"{statistics.median(cost.core_shares):.1%}",
        f"{min(cost.core_shares):.1%} - {max(cost.core_shares):.1%}",
        f"{cost.peak_rss_mb:.0f}",
        f"{cost.polls_per_second:,.0f}",
        f"{cost.gap_p50:.2f} s",
        f"{cost.gap_max:.2f} s",
        str(cost.unpolled),
    )
    console.print(table)
    console.print(
        f"CPU time of {len(cost.core_shares)} parts of the time, in order: "
        f"{', '.join(f'{share:.1%}' for share in cost.core_shares)}. "
        f"Each shard is to be polled every {cost.interval:g} s (read.idle_poll_interval)."
    )


class _Polls:
    """When each shard was polled."""

    def __init__(self) -> None:
        # Two lists for all: to find a shard's own at each poll is to fetch it from memory, which
        # would be a part of what is measured.
        self._shards: list[str] = []
        self._times: list[float] = []

    @property
    def times(self) -> dict[str, list[float]]:
        """When each shard was polled, in monotonic seconds."""
        times: dict[str, list[float]] = {}
        for shard, at in zip(self._shards, self._times, strict=True):
            times.setdefault(shard, []).append(at)
        return times

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note every GetRecords call of every reader, at the cost of a call."""
        note_call, shards, times = ShardReader._note_call, self._shards, self._times

        def noted(reader: ShardReader) -> None:
            shards.append(reader._shard_id)
            times.append(time.monotonic())
            note_call(reader)

        with patch.object(ShardReader, "_note_call", noted):
            yield


async def _idle(spec: IdleSpec) -> None:
    overrides = {
        "group": "bench",
        "stream.name": _STREAM,
        "stream.region": "us-east-1",
        "stream.endpoint_url": spec.endpoint_url,
        "redis.url": spec.redis_url,
        "read.idle_after": _IDLE_AFTER_S,
        **spec.settings,
    }
    config = load_config(None, {}, overrides)
    calm_collector()
    polls = _Polls()
    with polls.watched():
        worker = Worker(config, load_processors({"noop": {}}))
        running = asyncio.create_task(worker.run())
        while len(polls.times) < spec.shards:
            if running.done():
                running.result()
            await asyncio.sleep(0.1)
        await asyncio.sleep(spec.settle)
        cost = await _look(spec, config.read, polls)
        announce(cost)
        worker.stop()
        await running


async def _look(spec: IdleSpec, read: ReadConfig, polls: _Polls) -> IdleCost:
    started, shares = time.monotonic(), []
    parts = max(1, round(spec.seconds / _SLICE_S))
    for _ in range(parts):
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(spec.seconds / parts)
        shares.append((time.process_time() - cpu) / (time.monotonic() - began))
    took = time.monotonic() - started
    recent = {shard: [at for at in times if at >= started] for shard, times in polls.times.items()}
    gaps = [b - a for times in recent.values() for a, b in itertools.pairwise(times)]
    # ru_maxrss is in KiB on Linux and in bytes on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return IdleCost(
        shards=len(recent),
        interval=read.idle_poll_interval,
        seconds=spec.seconds,
        core_shares=shares,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
        polls_per_second=sum(len(times) for times in recent.values()) / took,
        gap_p50=percentile(gaps, 0.5),
        gap_max=max(gaps),
        unpolled=sum(not times for times in recent.values()),
    )


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=IdleSpec)
    pin(given.core)
    run_loop(_idle(given))
