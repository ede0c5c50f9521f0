"""One of several workers on one stream: told to begin, works until its stdin is closed."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgspec

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.pipeline.transaction import Transactor
from streamproc.plugins import load_processors
from streamproc.settings import load_config
from streamproc.worker import Worker
from streamproc_benchmarks.noop import ComputingProcessor
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce

__all__ = ["Account", "Begin", "Committed", "Holding", "ScalingWorkerSpec"]

# The workers read ahead while the stream is filled: a page of it, not all that is then measured.
_PREFETCH_BYTES: Final = 4 * 1024 * 1024


class ScalingWorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and where to leave the `Account`, as MessagePack."""

    core: int | None
    endpoint_url: str
    redis_url: str
    stream: str
    processor: str
    result: str
    settings: dict[str, Any] = {}


class Holding(msgspec.Struct, frozen=True):
    """A line to the parent: shards that are processed here now, and the records done so far."""

    shards: int
    records: int


class Begin(msgspec.Struct, frozen=True):
    """A line from the parent: the stream is filled."""

    records: int


class Committed(msgspec.Struct, frozen=True):
    """A batch: when its commit was done (monotonic), and the CPU time of this process by then."""

    at: float
    cpu: float
    shard: str
    sequences: list[str]


class Account(msgspec.Struct, frozen=True):
    """Every batch, in the order of their commits."""

    batches: list[Committed]


async def _work(spec: ScalingWorkerSpec) -> None:
    overrides = {
        "group": "bench",
        "stream.name": spec.stream,
        "stream.region": "us-east-1",
        "stream.endpoint_url": spec.endpoint_url,
        "redis.url": spec.redis_url,
        "read.prefetch_bytes": _PREFETCH_BYTES,
        **spec.settings,
    }
    batches: list[Committed] = []
    filled = asyncio.Event()
    process = Transactor.process

    @functools.wraps(process)
    async def noted(self: Transactor, records: Any) -> None:
        await filled.wait()
        await process(self, records)
        sequences = [record.sequence_number for record in records]
        batches.append(Committed(time.monotonic(), time.process_time(), self._shard_id, sequences))

    calm_collector()
    # No plugin of its own: nobody needs it but this scenario.
    own = {"use": f"{ComputingProcessor.__module__}:{ComputingProcessor.__name__}"}
    options = own if spec.processor == ComputingProcessor.name else {}
    worker = Worker(load_config(None, {}, overrides), load_processors({spec.processor: options}))
    with patch.object(Transactor, "process", noted):
        running = asyncio.create_task(worker.run())
        reporting = asyncio.create_task(_report(worker, batches))
        await asyncio.to_thread(sys.stdin.buffer.readline)
        filled.set()
        # The end of stdin is the parent's word to stop, and comes also when the parent dies.
        await asyncio.to_thread(sys.stdin.buffer.read)
        reporting.cancel()
        worker.stop()
        await running
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(Account(batches)))


async def _report(worker: Worker, batches: list[Committed]) -> None:
    """Tell the parent, ten times a second, how far this worker is."""
    records, counted = 0, 0
    while True:
        records += sum(len(batch.sequences) for batch in batches[counted:])
        counted = len(batches)
        held = sum(shard.phase == "processing" for shard in worker.status().shards)
        announce(Holding(held, records))
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=ScalingWorkerSpec)
    pin(given.core)
    run_loop(_work(given))
