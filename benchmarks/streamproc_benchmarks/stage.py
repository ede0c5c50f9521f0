"""Where workers are disturbed: servers and load in this process, workers in processes of their own.

The workers are started as `streamproc run` is, with their settings on the command line, and end by
real signals. What they have committed is read from the positions in Redis, past them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from streamproc.errors import StreamprocError
from streamproc.position import Position
from streamproc.state.keys import Keys
from streamproc.testing import EmbeddedRedis, LocalKinesis
from streamproc.testing.localkinesis.prepared import PreparedStream
from streamproc_benchmarks.demo.fleet import Fleet, Process, child_environment
from streamproc_benchmarks.effects import Effects, Steps, judge, read_seen
from streamproc_benchmarks.lag import Sample

__all__ = ["GROUP", "STREAM", "Stage", "StageError", "StageWorker", "beside", "open_stage"]

GROUP: Final = "bench"
STREAM: Final = "steps"
_POLL_S: Final = 0.1


class StageError(StreamprocError):
    """What was to be measured did not come about in time."""


class StageWorker:
    """A worker process."""

    def __init__(self, process: Process, socket: Path) -> None:
        self.process = process
        self._socket = socket

    @property
    def name(self) -> str:
        """Its worker id."""
        return self.process.name

    async def page(self, path: str) -> bytes | None:
        """Return a page of its HTTP server; None while nobody listens."""
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(self._socket))
                ) as session,
                session.get(f"http://worker{path}") as answer,
            ):
                return await answer.read()
        except aiohttp.ClientConnectionError:
            return None

    async def shards(self) -> list[str]:
        """Return the shards that it processes."""
        page = await self.page("/status")
        if page is None:
            return []
        shards = msgspec.json.decode(page)["shards"]
        return [shard["shard_id"] for shard in shards if shard["phase"] == "processing"]

    async def counted(self, name: str) -> int:
        """Return one of its counters, over all shards that it had.

        Raises:
            StageError: it does not answer.
        """
        page = await self.page("/status")
        if page is None:
            raise StageError(f"{self.name} does not answer; {self.process.tail()}")
        status = msgspec.json.decode(page)
        counters = [status["departed"], *(shard["statistics"] for shard in status["shards"])]
        return sum(int(each[name]) for each in counters)


class Stage:
    """Servers, workers, and the eyes on both.

    Args:
        kinesis: the stream's server.
        store: the Redis server.
        client: a connection to it, for the samples.
        fleet: starts the workers.
        directory: for their sockets and logs.
        core: to run the workers on; None leaves it to the system.
        settings: dotted settings of the workers that differ from the defaults.
    """

    def __init__(
        self,
        kinesis: LocalKinesis,
        store: EmbeddedRedis,
        client: redis.asyncio.Redis,
        fleet: Fleet,
        directory: Path,
        core: int | None,
        settings: dict[str, Any],
    ) -> None:
        self.kinesis = kinesis
        self.store = store
        self.stream = PreparedStream(kinesis.core, STREAM)
        self.samples: list[Sample] = []
        self.workers: list[StageWorker] = []
        self._client = client
        self._fleet = fleet
        self._directory = directory
        self._core = core
        self._settings = settings
        self._positions = Keys(GROUP).positions

    # Workers.

    async def start_worker(self, name: str, **processor: Any) -> StageWorker:
        """Start a worker with the processor `effects`, given its settings."""
        socket = self._directory / f"{name}.sock"
        settings: dict[str, Any] = {
            "group": GROUP,
            "stream.name": STREAM,
            "stream.region": "us-east-1",
            "stream.endpoint_url": self.kinesis.endpoint_url,
            "redis.url": self.store.url,
            "worker.id": name,
            "http.socket": str(socket),
            **{f"processors.effects.{key}": value for key, value in processor.items()},
            **self._settings,
        }
        arguments = ["run"]
        for key, value in settings.items():
            arguments += ["--set", f"{key}={msgspec.json.encode(value).decode()}"]
        process = await self._fleet.start(name, arguments, child_environment())
        if self._core is not None and sys.platform == "linux":
            # It is a fresh interpreter: whatever threads it will have, they inherit this.
            os.sched_setaffinity(process.pid, {self._core})
        worker = StageWorker(process, socket)
        self.workers.append(worker)
        return worker

    async def end_worker(self, worker: StageWorker, how: signal.Signals) -> None:
        """End a worker by a signal, and wait until it is gone."""
        self.workers.remove(worker)
        await worker.process.end(how)

    async def until_shared(self, limit: float) -> None:
        """Wait until every worker processes its share of the open shards.

        Raises:
            StageError: not within `limit` seconds.
        """
        shards = len(self.open_shards())
        fair = {shards // len(self.workers), -(-shards // len(self.workers))}

        async def shared() -> bool:
            held = [len(await worker.shards()) for worker in self.workers]
            return sum(held) == shards and set(held) <= fair

        await self._until(shared, limit, f"{len(self.workers)} workers to share {shards} shards")

    # Stream.

    def open_shards(self) -> list[str]:
        """Return the shards that take records, in the order of their hash ranges."""
        listed = self.kinesis.core.call("ListShards", StreamName=STREAM)["Shards"]
        open_ones = [
            shard for shard in listed if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
        open_ones.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
        return [shard["ShardId"] for shard in open_ones]

    def split(self, shard: str) -> None:
        """Split a shard in the middle of its hash range."""
        listed = self.kinesis.core.call("ListShards", StreamName=STREAM)["Shards"]
        ends = next(one["HashKeyRange"] for one in listed if one["ShardId"] == shard)
        middle = (int(ends["StartingHashKey"]) + int(ends["EndingHashKey"]) + 1) // 2
        self.kinesis.core.call(
            "SplitShard", StreamName=STREAM, ShardToSplit=shard, NewStartingHashKey=str(middle)
        )

    def merge(self, shard: str, adjacent: str) -> None:
        """Merge two neighbours."""
        self.kinesis.core.call(
            "MergeShards", StreamName=STREAM, ShardToMerge=shard, AdjacentShardToMerge=adjacent
        )

    # Eyes.

    async def watch(self, interval: float) -> None:
        """Take a sample every `interval` seconds until cancelled."""
        due = time.monotonic()
        while True:
            self.samples.append(await self.look())
            due = max(due + interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def look(self) -> Sample:
        """Return how stream and commits stand; while Redis is down, as it was last seen."""
        try:
            found: Any = await self._client.hgetall(self._positions)
        except (RedisError, OSError):
            # Nothing commits while it is down, so what was seen last is how it stands.
            shards = self.samples[-1].shards if self.samples else {}
        else:
            tips = self.stream.tips()
            shards = {}
            for field, value in found.items():
                shard = field.decode().rpartition("/")[2]
                shards[shard] = self._committed(shard, value.decode(), tips)
        return Sample(
            at=time.monotonic(), published=sum(self.stream.tips().values()), shards=shards
        )

    async def until_caught_up(self, limit: float) -> None:
        """Wait until all that was published is committed.

        Raises:
            StageError: not within `limit` seconds.
        """

        async def caught_up() -> bool:
            return (await self.look()).lag == 0

        await self._until(caught_up, limit, "all records to be committed")

    async def effects(self, steps: Steps, *, all_of_it: bool) -> Effects:
        """Return what became of the records, by the states in Redis."""
        return judge(steps.sent, await read_seen(self.store.url, GROUP), all_of_it=all_of_it)

    async def _until(
        self, condition: Callable[[], Awaitable[bool]], limit: float, what: str
    ) -> None:
        deadline = time.monotonic() + limit
        while not await condition():
            for worker in self.workers:
                if not worker.process.is_running:
                    raise StageError(f"{worker.name} ended by itself; {worker.process.tail()}")
            if time.monotonic() > deadline:
                logs = "\n".join(worker.process.tail() for worker in self.workers)
                raise StageError(f"waited {limit:g} s in vain for {what}\n{logs}")
            await asyncio.sleep(_POLL_S)

    def _committed(self, shard: str, text: str, tips: dict[str, int]) -> tuple[int, int]:
        epoch, _, rest = text.partition("|")
        position = Position.decode(rest) if rest else None
        if position is None or position.is_start:
            return int(epoch), 0
        if position.is_end:
            return int(epoch), tips[shard]
        return int(epoch), self.stream.position_after(position.sequence)


@asynccontextmanager
async def beside(
    *running: Coroutine[Any, Any, None],
) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """Let them run during the context, which gets a function to wait for some seconds with.

    Waiting ends at once with the error of one that fails.
    """
    tasks = [asyncio.create_task(each) for each in running]

    async def wait(seconds: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when="FIRST_COMPLETED")
        for task in done:
            task.result()
            raise StageError(f"{task.get_coro()} ended although it was still needed")

    try:
        yield wait
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_stage(
    directory: Path, shards: int, core: int | None, settings: dict[str, Any], *, durable: bool
) -> AsyncIterator[Stage]:
    """Start the servers; whatever was started ends with the context.

    A durable Redis keeps an append-only file, synced at every write, so that a kill loses nothing.
    """
    async with (
        EmbeddedRedis(appendonly=durable) as store,
        LocalKinesis() as kinesis,
        # No timeouts: with one, redis-py sends inside asyncio.wait_for, which in Python 3.11 may
        # swallow the cancellation that ends the watching.
        redis.asyncio.Redis.from_url(
            store.url, socket_timeout=None, socket_connect_timeout=None
        ) as client,
        Fleet(directory) as fleet,
    ):
        kinesis.core.call("CreateStream", StreamName=STREAM, ShardCount=shards)
        yield Stage(kinesis, store, client, fleet, directory, core, settings)
