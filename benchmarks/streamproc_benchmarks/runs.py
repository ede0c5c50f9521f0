"""One run: a load on a stream, one fresh consumer on it, checked before anyone sees a figure."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import redis.asyncio

from streamproc_benchmarks.consumer import ConsumerName, ConsumerSpec, Ready
from streamproc_benchmarks.load import LoadSpec, Published
from streamproc_benchmarks.open_loop import Offered
from streamproc_benchmarks.peers.attendant import PeerSpec
from streamproc_benchmarks.peers.installation import PEERS, PeerName, Prepared
from streamproc_benchmarks.pinning import Cores
from streamproc_benchmarks.processes import Child, Go, start_child
from streamproc_benchmarks.progress import Consumed, Window, middle
from streamproc_benchmarks.server import (
    Delete,
    Offer,
    Prepare,
    Rest,
    Servers,
    ServerSpec,
    redis_version,
)
from streamproc_benchmarks.verification import CountsWrong, Verdict, verify
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["Bench", "RunningConsumer", "check", "open_bench", "open_benches", "workload_of"]

_START_S: Final = 30.0
# KCL elects a leader, which then assigns the leases; a JVM on a busy core takes its time.
_PEER_START_S: Final = 120.0
_LOAD_S: Final = 600.0
# A consumer stands still while others have their turn, or start: nothing may run out meanwhile.
_STANDSTILL: Final = {"leases.duration": 600.0, "redis.timeout": 600.0, "read.timeout": 600.0}
_MUST_BE_ZERO: Final = ("duplicates", "unknown", "dead_letters", "store_errors", "rewinds")


class Bench:
    """Servers that run, and what can be run against them.

    Args:
        server: their process.
        servers: where they are.
        cores: what to pin where.
        shards: shards of each stream.
        directory: where processes leave their results.
        limit: seconds that one run may take.
        settings: dotted settings of the workers that differ from the defaults.

    Attributes:
        peers: those that can be run, by name; to be filled before they are asked for.
    """

    def __init__(
        self,
        server: Child,
        servers: Servers,
        cores: Cores,
        shards: int,
        directory: Path,
        limit: float,
        settings: dict[str, Any],
    ) -> None:
        self.servers = servers
        self._server = server
        self.peers: dict[str, Prepared] = {}
        self._cores = cores
        self._shards = shards
        self._directory = directory
        self._limit = limit
        self._settings = settings

    async def redis_version(self) -> str:
        """Return what the Redis server calls itself."""
        return await redis_version(self.servers.redis_url)

    async def load(self, stream: str, workload: WorkloadName, count: int, seed: int) -> Published:
        """Put records into a stream, all at once."""
        result = self._directory / f"{stream}.published"
        spec = LoadSpec(
            core=self._cores.load,
            endpoint_url=self.servers.endpoint_url,
            stream=stream,
            workload=workload,
            count=count,
            seed=seed,
            result=str(result),
        )
        async with start_child("load", spec) as child:
            await child.line(_LOAD_S)
        return msgspec.msgpack.decode(result.read_bytes(), type=Published)

    async def prepare(self, workload: WorkloadName, count: int, seed: int) -> None:
        """Have the servers make the records that `offer` will send."""
        await self._carried_out(Prepare(workload=workload, count=count, seed=seed), _LOAD_S)

    async def offer(self, stream: str, workload: WorkloadName, count: int, rate: float) -> Offered:
        """Have the first `count` of the prepared records sent, open loop, at `rate` a second."""
        result = self._directory / f"{stream}.offered"
        order = Offer(stream=stream, workload=workload, count=count, rate=rate, result=str(result))
        await self._carried_out(order, _LOAD_S + count / rate)
        return msgspec.msgpack.decode(result.read_bytes(), type=Offered)

    async def delete(self, stream: str) -> None:
        """Delete a stream, since the servers keep it in memory."""
        await self._carried_out(Delete(stream=stream), _START_S)

    async def rest(self) -> None:
        """Have the servers stand still until `wake`, and with them what they were asked to do."""
        await self._carried_out(Rest(), _START_S)

    async def wake(self) -> None:
        """Have the servers go on."""
        await self._server.tell(Go())

    async def _carried_out(self, order: Prepare | Offer | Delete | Rest, timeout: float) -> None:
        await self._server.tell(order)
        await self._server.line(timeout)

    @contextlib.asynccontextmanager
    async def consumer(
        self,
        consumer: ConsumerName | PeerName,
        stream: str,
        expected: int,
        *,
        margin: float = 0.0,
        turn: int | None = None,
    ) -> AsyncIterator[RunningConsumer]:
        """Start a consumer on an empty Redis; the context begins once it reads every shard.

        Args:
            consumer: which.
            stream: what it reads.
            expected: records after which it is done.
            margin: the share of the records at either end that the clocks leave out.
            turn: records after which it stands still, and the servers too, until its next turn.
        """
        async with redis.asyncio.Redis.from_url(self.servers.redis_url) as client:
            await client.flushall()
        result = self._directory / f"{stream}.consumed"
        window = middle(expected, margin, turn)
        peer = self.peers.get(consumer)
        if peer is not None:
            start_s = _PEER_START_S
            child_of = start_child("peers.attendant", self._peer_spec(peer, stream, window, result))
        else:
            start_s = _START_S
            own = cast("ConsumerName", consumer)
            child_of = start_child("consumer", self._own_spec(own, stream, window, result))
        async with child_of as child:
            # A short limit may be over before every shard is read: then it is done at once.
            said = msgspec.json.decode(await child.line(start_s), type=Ready)
            timeout = None if said.what == "done" else self._limit + start_s
            running = RunningConsumer(self, child, result, timeout)
            try:
                yield running
            finally:
                await running.wake()

    def _own_spec(
        self, consumer: ConsumerName, stream: str, window: Window, result: Path
    ) -> ConsumerSpec:
        return ConsumerSpec(
            consumer=consumer,
            core=self._cores.consumer,
            endpoint_url=self.servers.endpoint_url,
            redis_url=self.servers.redis_url,
            server_pid=self.servers.server_pid,
            redis_pid=self.servers.redis_pid,
            stream=stream,
            shards=self._shards,
            window=window,
            limit=self._limit,
            result=str(result),
            settings=self._settings,
        )

    def _peer_spec(self, prepared: Prepared, stream: str, window: Window, result: Path) -> PeerSpec:
        return PeerSpec(
            prepared=prepared,
            core=self._cores.consumer,
            attendant_core=self._cores.load,
            endpoint_url=self.servers.endpoint_url,
            server_pid=self.servers.server_pid,
            redis_pid=self.servers.redis_pid,
            stream=stream,
            window=window,
            limit=self._limit,
            result=str(result),
        )


class RunningConsumer:
    """A consumer that reads all shards.

    Args:
        bench: its servers.
        child: its process.
        result: where it leaves its account.
        timeout: seconds to wait for it; None if it is done.
    """

    def __init__(self, bench: Bench, child: Child, result: Path, timeout: float | None) -> None:
        self._bench = bench
        self._child = child
        self._result = result
        self._timeout = timeout
        self._rests = False

    async def take_turn(self) -> bool:
        """Let it, and its servers, go on until the end of its turn; False once it is done."""
        if self._timeout is None:
            return False
        if self._rests:
            await self.wake()
            await self._child.tell(Go())
        said = msgspec.json.decode(await self._child.line(self._timeout), type=Ready)
        if said.what == "done":
            self._timeout = None
            return False
        await self._bench.rest()
        self._rests = True
        return True

    async def wake(self) -> None:
        """Have its servers go on, if they stand still: it cannot even end without them."""
        if self._rests:
            self._rests = False
            await self._bench.wake()

    async def finish(self) -> Consumed:
        """Wait until it has done all it expects, or its time is over."""
        while await self.take_turn():
            pass
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
            yield Bench(child, servers, cores, shards, Path(directory), limit, settings)


@contextlib.asynccontextmanager
async def open_benches(
    names: Iterable[ConsumerName | PeerName],
    cores: Cores,
    shards: int,
    limit: float,
    settings: dict[str, Any],
) -> AsyncIterator[dict[ConsumerName | PeerName, Bench]]:
    """Run servers for each consumer, with a stream called as what the consumer is given."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                open_bench(cores, {workload_of(name): shards}, limit, _STANDSTILL | settings)
            )
            for name in names
        }


def workload_of(consumer: ConsumerName | PeerName) -> WorkloadName:
    """Return what a consumer is given; those without a processor get what `noop` gets."""
    match consumer:
        case "fraud":
            return "payments"
        case "inventory":
            return "orders"
        case _:
            return "events"


def check(consumer: ConsumerName | PeerName, published: Published, consumed: Consumed) -> Verdict:
    """Return how a run's records compare with what was published.

    One of our own passes only if each record was done once and in order, and really processed. A
    peer's losses and repetitions are its own, and for the reader to see beside its figure.

    Raises:
        CountsWrong: it was not, or nothing was measured; says how.
    """
    verdict = verify(published.shards, consumed.by_shard())
    if consumer not in PEERS:
        verdict.require_clean(consumer)
    if not consumed.records:
        raise CountsWrong(
            f"{consumer}: all {verdict.consumed} records came in so few batches that none lay "
            "between warm-up and end; more records are needed (--records)"
        )
    counters = consumed.counters
    if not counters:
        return verdict
    wrong = {name: counters[name] for name in _MUST_BE_ZERO if counters[name]}
    if counters["processed"] != published.count or wrong:
        raise CountsWrong(
            f"{consumer}: {published.count} records published, {counters['processed']} "
            f"processed; {wrong or 'nothing put aside'}; no figure is shown"
        )
    return verdict
