"""One of several workers on one stream: works in turns, then to the end, until stdin is closed."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest.mock import patch

import msgspec

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.pipeline.transaction import Transactor
from streamproc.plugins import load_processors
from streamproc.settings import load_config
from streamproc.worker import Worker
from streamproc_benchmarks.measurement import Mark, mark
from streamproc_benchmarks.noop import ComputingProcessor
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce

__all__ = [
    "Account",
    "Begin",
    "Committed",
    "Finish",
    "Holding",
    "ScalingWorkerSpec",
    "TakenTurn",
    "Turn",
]

# The workers read ahead while the stream is filled: a part of it, not all that is then measured. In
# it are as many answers as the defaults have, or a worker would have one at a time and then wait.
_PREFETCH_BYTES: Final = 4 * 1024 * 1024
_MAX_RECORDS: Final = 1_000


class ScalingWorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and where to leave the `Account`, as MessagePack."""

    core: int | None
    endpoint_url: str
    redis_url: str
    server_pid: int
    redis_pid: int
    group: str
    stream: str
    processor: str
    result: str
    settings: dict[str, Any] = {}


class Holding(msgspec.Struct, frozen=True):
    """A line to the parent: shards that are processed here now, and the records done so far."""

    shards: int
    records: int


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The first line from the parent: the stream is filled. Turns follow."""


class Turn(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A line from the parent: run from one monotonic time to another, on a core; then stand still.

    The times are the same for all workers of a team, so that they run together.
    """

    begins: float
    ends: float
    core: int | None


class Finish(msgspec.Struct, frozen=True, tag=True):
    """A line from the parent: the turns are over, do the rest."""


class Committed(msgspec.Struct, frozen=True):
    """A batch: when it was begun and when its commit was done (monotonic)."""

    began: float
    at: float
    shard: str
    sequences: list[str]


class TakenTurn(msgspec.Struct, frozen=True):
    """The clocks at the beginning and at the end of a turn."""

    began: Mark
    ended: Mark


class Account(msgspec.Struct, frozen=True):
    """Every turn, when the rest was begun, and every batch in the order of their commits."""

    turns: list[TakenTurn]
    finishing: float
    batches: list[Committed]


class _Turns:
    """Has this process stand still between its turns, with whatever it is about.

    A turn ends by a timer's signal, whose handler waits for the next line within the main thread:
    no handler of an event, no answer and no heartbeat goes on meanwhile. Were the parent to stop
    the process instead, nothing would end it if the parent died.
    """

    def __init__(self, spec: ScalingWorkerSpec) -> None:
        self.taken: list[TakenTurn] = []
        self.finishing = 0.0
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._clocks = functools.partial(mark, spec.server_pid, spec.redis_pid)
        signal.signal(signal.SIGALRM, self._end)

    def wait(self) -> None:
        """Stand still until the next turn begins, or what follows the last."""
        line = sys.stdin.buffer.readline()
        order = msgspec.json.decode(line, type=Turn | Finish) if line else Finish()
        if isinstance(order, Finish):
            self.finishing = time.monotonic()
            self._loop.call_soon_threadsafe(self.over.set)
            return
        pin(order.core)
        time.sleep(max(0.0, order.begins - time.monotonic()))
        self._began = self._clocks()
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, order.ends - time.monotonic()))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.taken.append(TakenTurn(self._began, self._clocks()))
        self.wait()


async def _work(spec: ScalingWorkerSpec) -> None:
    overrides = {
        "group": spec.group,
        "stream.name": spec.stream,
        "stream.region": "us-east-1",
        "stream.endpoint_url": spec.endpoint_url,
        "redis.url": spec.redis_url,
        "read.prefetch_bytes": _PREFETCH_BYTES,
        "read.max_records": _MAX_RECORDS,
        **spec.settings,
    }
    batches: list[Committed] = []
    filled = asyncio.Event()
    process = Transactor.process

    @functools.wraps(process)
    async def noted(self: Transactor, records: Any) -> None:
        await filled.wait()
        sequences = [record.sequence_number for record in records]
        began = time.monotonic()
        await process(self, records)
        batches.append(Committed(began, time.monotonic(), self._shard_id, sequences))

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
        turns = _Turns(spec)
        turns.wait()
        await turns.over.wait()
        # The end of stdin is the parent's word to stop, and comes also when the parent dies.
        await asyncio.to_thread(sys.stdin.buffer.read)
        reporting.cancel()
        worker.stop()
        await running
    account = msgspec.msgpack.encode(Account(turns.taken, turns.finishing, batches))
    await asyncio.to_thread(Path(spec.result).write_bytes, account)


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
