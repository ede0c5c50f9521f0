"""The process of one run of `soak`: servers and load here, the worker that is watched beside it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.config import BatchConfig
from streamproc_benchmarks.effects import Effects, Steps
from streamproc_benchmarks.lag import Sample
from streamproc_benchmarks.measurement import cpu_seconds
from streamproc_benchmarks.memory import Memory, resident_mb
from streamproc_benchmarks.open_loop import OpenLoop
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce
from streamproc_benchmarks.server import redis_version
from streamproc_benchmarks.sockets import socket_directory
from streamproc_benchmarks.stage import Stage, StageError, StageWorker, beside, open_stage

__all__ = [
    "CapacityRun",
    "CapacitySpec",
    "OverloadRun",
    "OverloadSpec",
    "ReplayRun",
    "ReplaySpec",
    "SoakDone",
    "SoakSpec",
]

_KEYS: Final = 1_000
_START_S: Final = 60.0
_SAMPLE_S: Final = 0.1
_APPENDED: Final = 500
_WARM_UP_BATCHES: Final = 2
_SLOW: Final = "streamproc_benchmarks.effects:SlowEffectsProcessor"
_QUICK: Final = "streamproc_benchmarks.effects:EffectsProcessor"
# How long the first batches of a worker take says little about the later ones.
_RUN_UP_SHARE: Final = 1 / 3


class SoakSpec(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all runs have in common.

    Attributes:
        result: the file to write the result to, as MessagePack.
        settings: dotted settings of the worker that differ from the defaults.
    """

    shards: int
    seed: int
    load_core: int | None
    worker_core: int | None
    result: str
    settings: dict[str, Any] = {}


class CapacitySpec(SoakSpec, frozen=True, kw_only=True, tag=True):
    """How much a worker does whose handler waits `service` seconds, with more than it can take."""

    service: float
    seconds: float


class CapacityRun(msgspec.Struct, frozen=True, kw_only=True):
    """Records that it committed in a second."""

    rate: float


class OverloadSpec(SoakSpec, frozen=True, kw_only=True, tag=True):
    """Offer `rate` records a second for `seconds`, after some full batches to warm up."""

    service: float
    rate: float
    seconds: float


class OverloadRun(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        base_mb: the worker's memory after it had full batches in hand, and has nothing before it.
        sent: records a second that the generator sent.
        committed: records committed in the end, by the positions.
        memory: from the beginning of the overload on.
        server_mb: the most memory that LocalKinesis took.
    """

    redis_server: str
    base_mb: float
    sent: float
    committed: int
    effects: Effects
    memory: Memory
    server_mb: float


class ReplaySpec(SoakSpec, frozen=True, kw_only=True, tag=True):
    """Keep `ahead` records ready for the worker until it has done `events`.

    Attributes:
        per_second: events in a second of event time.
    """

    events: int
    per_second: float
    ahead: int


class ReplayRun(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        took: seconds from the first record to the last commit.
        starved: share of that time in which the worker had less than a tenth of `ahead` before it.
        worker_cpu, server_cpu: CPU seconds of the worker, and of LocalKinesis with the load.
        collections: of the worker's garbage collector, by generation.
        server_mb: the most memory that LocalKinesis took.
    """

    redis_server: str
    took: float
    starved: float
    worker_cpu: float | None
    server_cpu: float
    collections: list[int]
    committed: int
    effects: Effects
    memory: Memory
    server_mb: float


class SoakDone(msgspec.Struct, frozen=True):
    """The line that tells the parent that the result is written."""


class _Watch:
    """Samples of the worker's memory beside the stage's samples."""

    def __init__(self, stage: Stage, worker: StageWorker) -> None:
        self.stage = stage
        self.worker = worker
        self.began = time.monotonic()
        self.server_mb = 0.0
        self._rows: list[tuple[float, float, Sample]] = []

    async def run(self) -> None:
        """Take samples until cancelled."""
        for number in itertools.count(1):
            self.look(await self.stage.look())
            await asyncio.sleep(max(0.0, self.began + number * _SAMPLE_S - time.monotonic()))

    def look(self, sample: Sample) -> None:
        """Note the worker's memory with a sample."""
        self.stage.samples[:] = [sample]
        self.server_mb = max(self.server_mb, resident_mb(os.getpid()) or 0.0)
        self._rows.append((sample.at - self.began, self.memory_mb(), sample))

    def memory_mb(self) -> float:
        """Return the worker's memory now.

        Raises:
            StageError: it is gone, or this platform does not tell.
        """
        process = self.worker.process
        found = resident_mb(process.pid) if process.is_running else None
        if found is None:
            raise StageError(
                f"the memory of {self.worker.name} is not to be had: it ended, or this system has "
                f"no /proc; {process.tail()}"
            )
        return found

    def memory(self) -> Memory:
        """Return what was seen."""
        return Memory(
            at=[at for at, _, _ in self._rows],
            rss_mb=[mb for _, mb, _ in self._rows],
            published=[sample.published for _, _, sample in self._rows],
            committed=[sample.committed for _, _, sample in self._rows],
        )


@contextlib.asynccontextmanager
async def _one_worker(spec: SoakSpec, **processor: Any) -> AsyncIterator[tuple[Stage, StageWorker]]:
    with tempfile.TemporaryDirectory(
        prefix="streamproc-bench-", dir=socket_directory()
    ) as directory:
        async with open_stage(
            Path(directory), spec.shards, spec.worker_core, spec.settings, durable=False
        ) as stage:
            worker = await stage.start_worker("worker", **processor)
            await stage.until_shared(_START_S)
            calm_collector()
            yield stage, worker


async def _capacity(spec: CapacitySpec) -> CapacityRun:
    async with _one_worker(spec, use=_SLOW, seconds=spec.service) as (stage, _):
        # More than so many handlers at a time could ever take.
        concurrency = spec.settings.get("batch.concurrency", BatchConfig().concurrency)
        most = spec.shards * concurrency / spec.service
        load = OpenLoop(stage.stream, 2 * most)
        async with beside(load.run(Steps(_KEYS, spec.seed, most))) as wait:
            await wait(spec.seconds * _RUN_UP_SHARE)
            begun = await stage.look()
            await wait(spec.seconds * (1 - _RUN_UP_SHARE))
            ended = await stage.look()
        return CapacityRun(rate=(ended.committed - begun.committed) / (ended.at - begun.at))


async def _overload(spec: OverloadSpec) -> OverloadRun:
    steps = Steps(_KEYS, spec.seed, spec.rate)
    async with _one_worker(spec, use=_SLOW, seconds=spec.service) as (stage, worker):
        batch = spec.settings.get("batch.records", BatchConfig().records)
        stage.stream.append(itertools.islice(steps, _WARM_UP_BATCHES * spec.shards * batch))
        await stage.until_caught_up(_START_S)
        watch = _Watch(stage, worker)
        base_mb = watch.memory_mb()
        load = OpenLoop(stage.stream, spec.rate)
        async with beside(load.run(steps), watch.run()) as wait:
            await wait(spec.seconds)
        await stage.end_worker(worker, signal.SIGTERM)
        return OverloadRun(
            redis_server=await redis_version(stage.store.url),
            base_mb=base_mb,
            sent=load.offered().sent_rate,
            committed=(await stage.look()).committed,
            effects=await stage.effects(steps, all_of_it=False),
            memory=watch.memory(),
            server_mb=watch.server_mb,
        )


async def _replay(spec: ReplaySpec) -> ReplayRun:
    steps = Steps(_KEYS, spec.seed, spec.per_second)
    async with _one_worker(spec, use=_QUICK) as (stage, worker):
        watch = _Watch(stage, worker)
        server_cpu, worker_cpu = time.process_time(), cpu_seconds(worker.process.pid)
        filling = asyncio.create_task(_fill(stage, steps, spec))
        starved = looks = 0
        while (sample := await stage.look()).committed < spec.events:
            if filling.done():
                filling.result()
            watch.look(sample)
            looks += 1
            starved += sample.lag < spec.ahead / 10 and not filling.done()
            for shard, (_, committed) in sample.shards.items():
                stage.stream.forget_before(shard, committed)
            await asyncio.sleep(_SAMPLE_S)
        took = sample.at - watch.began
        watch.look(sample)
        ended = cpu_seconds(worker.process.pid)
        return ReplayRun(
            redis_server=await redis_version(stage.store.url),
            took=took,
            starved=starved / looks,
            worker_cpu=None if ended is None or worker_cpu is None else ended - worker_cpu,
            server_cpu=time.process_time() - server_cpu,
            collections=await _collections(worker),
            committed=sample.committed,
            effects=await stage.effects(steps, all_of_it=True),
            memory=watch.memory(),
            server_mb=watch.server_mb,
        )


async def _fill(stage: Stage, steps: Steps, spec: ReplaySpec) -> None:
    """Append all events, no more than `ahead` before what the last sample shows as committed."""
    made = 0
    while made < spec.events:
        done = stage.samples[-1].committed if stage.samples else 0
        if made - done >= spec.ahead:
            await asyncio.sleep(_SAMPLE_S / 4)
            continue
        count = min(_APPENDED, spec.events - made)
        stage.stream.append(itertools.islice(steps, count))
        made += count
        # The servers share this loop.
        await asyncio.sleep(0)


async def _collections(worker: StageWorker) -> list[int]:
    page = await worker.page("/metrics")
    if page is None:
        raise StageError(f"{worker.name} does not answer; {worker.process.tail()}")
    counts = {
        sample.labels["generation"]: int(sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "python_gc_collections_total"
    }
    return [counts[generation] for generation in sorted(counts)]


async def _run(spec: CapacitySpec | OverloadSpec | ReplaySpec) -> None:
    found: msgspec.Struct
    match spec:
        case CapacitySpec():
            found = await _capacity(spec)
        case OverloadSpec():
            found = await _overload(spec)
        case ReplaySpec():
            found = await _replay(spec)
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(found))
    announce(SoakDone())


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=CapacitySpec | OverloadSpec | ReplaySpec)
    pin(given.load_core)
    run_loop(_run(given))
