"""One run: a load on a stream, one fresh consumer on it, checked before anyone sees a figure."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import redis.asyncio

from streamproc_benchmarks.consumer import ConsumerName, ConsumerSpec, Ready
from streamproc_benchmarks.load import LoadSpec, Published
from streamproc_benchmarks.pinning import Cores
from streamproc_benchmarks.processes import Child, start_child
from streamproc_benchmarks.progress import Consumed
from streamproc_benchmarks.server import Servers, ServerSpec
from streamproc_benchmarks.verification import CountsWrong, verify
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["Bench", "check", "open_bench", "workload_of"]

_START_S: Final = 30.0
_LOAD_S: Final = 600.0
_MUST_BE_ZERO: Final = ("duplicates", "unknown", "dead_letters", "store_errors", "rewinds")


class Bench:
    """Servers that run, and what can be run against them.

    Args:
        servers: where they are.
        cores: what to pin where.
        shards: shards of each stream.
        directory: where processes leave their results.
        limit: seconds that one run may take.
        settings: dotted settings of the workers that differ from the defaults.
    """

    def __init__(
        self,
        servers: Servers,
        cores: Cores,
        shards: int,
        directory: Path,
        limit: float,
        settings: dict[str, Any],
    ) -> None:
        self.servers = servers
        self._cores = cores
        self._shards = shards
        self._directory = directory
        self._limit = limit
        self._settings = settings

    async def redis_version(self) -> str:
        """Return what the Redis server calls itself."""
        async with redis.asyncio.Redis.from_url(self.servers.redis_url) as client:
            info: dict[str, Any] = await client.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"

    async def load(
        self, stream: str, workload: WorkloadName, count: int, seed: int, rate: float | None
    ) -> Published:
        """Put records into a stream; at `rate` a second, or all at once."""
        result = self._directory / f"{stream}.published"
        spec = LoadSpec(
            core=self._cores.load,
            endpoint_url=self.servers.endpoint_url,
            stream=stream,
            workload=workload,
            count=count,
            seed=seed,
            rate=rate,
            result=str(result),
        )
        async with start_child("load", spec) as child:
            await child.line(_LOAD_S + (0.0 if rate is None else count / rate))
        return msgspec.msgpack.decode(result.read_bytes(), type=Published)

    @contextlib.asynccontextmanager
    async def consumer(
        self, consumer: ConsumerName, stream: str, expected: int
    ) -> AsyncIterator[RunningConsumer]:
        """Start a consumer on an empty Redis; the context begins once it reads every shard."""
        async with redis.asyncio.Redis.from_url(self.servers.redis_url) as client:
            await client.flushall()
        result = self._directory / f"{stream}.consumed"
        spec = ConsumerSpec(
            consumer=consumer,
            core=self._cores.consumer,
            endpoint_url=self.servers.endpoint_url,
            redis_url=self.servers.redis_url,
            server_pid=self.servers.server_pid,
            redis_pid=self.servers.redis_pid,
            stream=stream,
            shards=self._shards,
            expected=expected,
            limit=self._limit,
            result=str(result),
            settings=self._settings,
        )
        async with start_child("consumer", spec) as child:
            # A short limit may be over before every shard is read: then it is done at once.
            said = msgspec.json.decode(await child.line(_START_S), type=Ready)
            timeout = None if said.what == "done" else self._limit + _START_S
            yield RunningConsumer(child, result, timeout)


class RunningConsumer:
    """A consumer that reads all shards.

    Args:
        child: its process.
        result: where it leaves its account.
        timeout: seconds to wait for it; None if it is done.
    """

    def __init__(self, child: Child, result: Path, timeout: float | None) -> None:
        self._child = child
        self._result = result
        self._timeout = timeout

    async def finish(self) -> Consumed:
        """Wait until it has done all it expects, or its time is over."""
        if self._timeout is not None:
            await self._child.line(self._timeout)
        return msgspec.msgpack.decode(self._result.read_bytes(), type=Consumed)


@contextlib.asynccontextmanager
async def open_bench(
    cores: Cores, streams: dict[str, int], limit: float, settings: dict[str, Any]
) -> AsyncIterator[Bench]:
    """Run the servers, with `streams` (name to number of shards) in them."""
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as directory:
        async with start_child("server", ServerSpec(cores.load, streams)) as child:
            servers = msgspec.json.decode(await child.line(_START_S), type=Servers)
            shards = next(iter(streams.values()))
            yield Bench(servers, cores, shards, Path(directory), limit, settings)


def workload_of(consumer: ConsumerName) -> WorkloadName:
    """Return what a consumer is given; those without a processor get what `noop` gets."""
    match consumer:
        case "fraud":
            return "payments"
        case "inventory":
            return "orders"
        case _:
            return "events"


def check(consumer: ConsumerName, published: Published, consumed: Consumed) -> None:
    """Let a run pass only if each record was done once and in order, and really processed.

    Raises:
        CountsWrong: it was not; says how.
    """
    verify(published.shards, consumed.by_shard()).require_clean(consumer)
    counters = consumed.counters
    if not counters:
        return
    wrong = {name: counters[name] for name in _MUST_BE_ZERO if counters[name]}
    if counters["processed"] != len(published.order) or wrong:
        raise CountsWrong(
            f"{consumer}: {len(published.order)} records published, {counters['processed']} "
            f"processed; {wrong or 'nothing put aside'}; no figure is shown"
        )
