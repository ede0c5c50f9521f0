"""A measured consumer's process: one run of one consumer, from a cold start to its account."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args
from unittest.mock import patch

import msgspec

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.kinesis.client import KinesisClient
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.transaction import Transactor
from streamproc.plugins import load_processors
from streamproc.settings import load_config
from streamproc.worker import Worker
from streamproc_benchmarks.leased import LeasedTransactor, leased_transactions
from streamproc_benchmarks.measurement import mark
from streamproc_benchmarks.peers.loops import run_plain, run_typed
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce, await_turn
from streamproc_benchmarks.progress import Progress, Window

__all__ = ["CONSUMERS", "ConsumerName", "ConsumerSpec", "Ready"]

ConsumerName = Literal["plain", "typed", "leased", "noop", "fraud", "inventory"]
CONSUMERS: Final[tuple[ConsumerName, ...]] = get_args(ConsumerName)

_COUNTERS: Final = (
    "records", "processed", "duplicates", "unknown", "dead_letters", "emitted", "batches",
    "reruns", "conflicts", "retries", "rewinds", "store_errors",
)  # fmt: skip

# The events' time is a constant, and they arrive whenever the benchmark runs.
_PROCESSOR_SETTINGS: Final[dict[str, dict[str, Any]]] = {"inventory": {"max_lateness": 0}}


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which consumer, on what.

    Attributes:
        shards: shards of the stream.
        window: what the clocks measure, and when the run is over.
        limit: seconds, without those between its turns, after which it is given up.
        result: the file to write the `Consumed` to, as MessagePack.
        settings: dotted settings of a worker that differ from the defaults.
    """

    consumer: ConsumerName
    core: int | None
    endpoint_url: str
    redis_url: str
    server_pid: int | None
    redis_pid: int | None
    stream: str
    shards: int
    window: Window
    limit: float
    result: str
    settings: dict[str, Any] = {}


class Ready(msgspec.Struct, frozen=True):
    """A line to the parent: every shard is being read; a turn is over; the account is written."""

    what: Literal["reading", "turn", "done"]


async def _run_worker(spec: ConsumerSpec, progress: Progress) -> dict[str, int]:
    """Run a worker as `streamproc run` does, without its HTTP port; return its counters."""
    overrides = {
        "group": "bench",
        "stream.name": spec.stream,
        "stream.region": "us-east-1",
        "stream.endpoint_url": spec.endpoint_url,
        "redis.url": spec.redis_url,
        **spec.settings,
    }
    calm_collector()
    # The whole configuration is given here; a file or variable of this host would distort it.
    name = "noop" if spec.consumer == "leased" else spec.consumer
    processors = load_processors({name: _PROCESSOR_SETTINGS.get(name, {})})
    worker = Worker(load_config(None, {}, overrides), processors)
    transactor = LeasedTransactor if spec.consumer == "leased" else Transactor
    with leased_transactions(spec.consumer == "leased"), _watched(progress, transactor):
        running = asyncio.create_task(worker.run())
        finished = asyncio.create_task(progress.finished.wait())
        try:
            await asyncio.wait({running, finished}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished.cancel()
            worker.stop()
            await running
    status = worker.status()
    total = ShardStatistics()
    for statistics in (status.departed, *[shard.statistics for shard in status.shards]):
        total.add(statistics)
    return {name: getattr(total, name) for name in _COUNTERS}


@contextmanager
def _watched(progress: Progress, transactor: type[Transactor]) -> Iterator[None]:
    """Have the engine's own calls tell `progress`: a position looked up, a batch committed.

    A batch costs one call and a list of references to its sequence numbers, some 20 ns a record.
    """
    look_up, process = KinesisClient.shard_iterator, transactor.process

    @functools.wraps(look_up)
    async def shard_iterator(
        self: KinesisClient, shard_id: str, position: Any, **options: Any
    ) -> str:
        iterator = await look_up(self, shard_id, position, **options)
        progress.reading(shard_id)
        return iterator

    @functools.wraps(process)
    async def process_batch(self: Transactor, records: Any) -> None:
        # Before, while the records are on their way into the CPU's cache anyhow.
        sequences = [record.sequence_number for record in records]
        await process(self, records)
        progress.done(self._shard_id, sequences)

    with (
        patch.object(KinesisClient, "shard_iterator", shard_iterator),
        patch.object(transactor, "process", process_batch),
    ):
        yield


async def _consume(spec: ConsumerSpec) -> None:
    patience = asyncio.timeout(spec.limit)

    def let_others() -> None:
        announce(Ready("turn"))
        stopped = time.monotonic()
        if not await_turn():
            sys.exit("told to end between two turns")
        due = patience.when()
        assert due is not None, "records are done within the timeout's context"
        patience.reschedule(due + time.monotonic() - stopped)

    progress = Progress(
        spec.window,
        spec.shards,
        lambda: announce(Ready("reading")),
        lambda: mark(spec.server_pid, spec.redis_pid),
        let_others,
    )
    counters: dict[str, int] = {}
    try:
        async with patience:
            if spec.consumer == "plain":
                await run_plain(spec.endpoint_url, spec.stream, progress)
            elif spec.consumer == "typed":
                await run_typed(spec.endpoint_url, spec.stream, progress)
            else:
                counters = await _run_worker(spec, progress)
    except TimeoutError:
        # What is missing by now counts as lost, which the parent finds out and says.
        print(f"{spec.consumer}: not finished within {spec.limit:g} s", file=sys.stderr)
    account = msgspec.msgpack.encode(progress.consumed(counters))
    await asyncio.to_thread(Path(spec.result).write_bytes, account)
    announce(Ready("done"))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=ConsumerSpec)
    pin(given.core)
    run_loop(_consume(given))
