"""The process that runs a peer: it starts it, reads what it says, and writes its account.

To the benchmark it looks like one of our own consumers' processes. It and the DynamoDB emulator
stay on the servers' core; only the peer runs on the consumer's. A peer says a line at each of its
moments, ``WHAT AT CPU RECORDS``: the monotonic clock and its own CPU time, all threads, both in
seconds, and the records done so far. WHAT is, in this order,

    began       it is about to read
    warm        the warm-up is over
    measured    so much is done as is to be measured
    done        its account is written

and ``turn``, unless it has but one, at the end of each: it is stopped, then, until its next one.

The account has a line for each of its batches, ``SHARD AT SEQUENCE...``. A peer whose users are
told neither shard nor sequence number writes ``-`` and the events' ids, which are looked up later.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from streamproc.cli.loop import run_loop
from streamproc.config import StreamConfig
from streamproc.events.envelope import read_envelope
from streamproc.kinesis.client import open_kinesis
from streamproc.leases.shard_sync import leases_to_create
from streamproc.leases.stores import open_store
from streamproc.position import TRIM_HORIZON
from streamproc_benchmarks.consumer import Ready
from streamproc_benchmarks.measurement import Mark, Standstill, cpu_seconds
from streamproc_benchmarks.peers.dynamodb import running_dynamodb
from streamproc_benchmarks.peers.installation import Prepared
from streamproc_benchmarks.pinning import pin, pinned
from streamproc_benchmarks.processes import ChildFailed, announce
from streamproc_benchmarks.progress import Consumed, DoneBatch, Window

__all__ = ["PeerSpec", "attend", "located", "parse_account"]

_APPLICATION: Final = "bench"
_LIMIT: Final = 10_000
_END_S: Final = 30.0
_NO_SHARD: Final = "-"


class PeerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which peer, on what.

    Attributes:
        core: the peer's.
        attendant_core: for this process and the DynamoDB emulator.
        limit: seconds from its beginning, without those between turns, after which it is told to
            end.
        result: the file to write the `Consumed` to, as MessagePack.
    """

    prepared: Prepared
    core: int | None
    attendant_core: int | None
    endpoint_url: str
    server_pid: int | None
    redis_pid: int | None
    stream: str
    window: Window
    limit: float
    result: str


class Moment(NamedTuple):
    """A line that a peer has said, and the other clocks when it was read."""

    what: str
    clocks: Mark
    records: int


class Pause(NamedTuple):
    """When a peer was kept from running: monotonic seconds."""

    began: float
    ended: float

    def within(self, began: float, ended: float) -> float:
        """Return how many of its seconds lie between two times."""
        return max(0.0, min(self.ended, ended) - max(self.began, began))


class _Peer:
    """A running peer."""

    def __init__(self, spec: PeerSpec, process: asyncio.subprocess.Process) -> None:
        self._spec = spec
        self._process = process

    async def moments(self) -> AsyncIterator[Moment]:
        """Yield what it says, until it is done.

        Raises:
            ChildFailed: it ended before.
        """
        assert self._process.stdout is not None, "_started opens a pipe"
        async for line in self._process.stdout:
            what, at, cpu, records = line.decode().split()
            clocks = Mark(
                at=float(at),
                own=float(cpu),
                # The threads of a JVM on one core wait for each other, which cannot be told apart.
                delayed=None,
                server=_cpu(self._spec.server_pid),
                redis=_cpu(self._spec.redis_pid),
            )
            yield Moment(what, clocks, int(records))
            if what == "done":
                return
        code = await self._process.wait()
        raise ChildFailed(f"{self._spec.prepared.peer} ended with code {code}")

    async def pause(self, next_turn: Awaitable[object]) -> Pause:
        """Keep it, and all its threads, from running until its next turn."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGSTOP)
        try:
            await next_turn
        finally:
            self._process.send_signal(signal.SIGCONT)
        return Pause(began, time.monotonic())

    def ask_to_end(self) -> None:
        """Have it write its account now, whatever is missing."""
        assert self._process.stdin is not None, "_started opens a pipe"
        self._process.stdin.close()


async def attend(spec: PeerSpec) -> None:
    """Run the peer once; a line on stdin begins each turn after the first.

    Raises:
        ChildFailed: it ended, or said nothing more, before its account was written.
    """
    account = Path(f"{spec.result}.lines")
    moments: dict[str, Moment] = {}
    pauses: list[Pause] = []
    loop, stdin = asyncio.get_running_loop(), await _open_stdin()
    async with _started(spec, account) as peer:
        ending = loop.call_later(spec.limit, peer.ask_to_end)
        ending.cancel()
        try:
            # How long it may take to begin is the benchmark's business, which waits for the line.
            async with asyncio.timeout(None) as patience:
                async for moment in peer.moments():
                    moments[moment.what] = moment
                    if moment.what == "began":
                        announce(Ready("reading"))
                        left = spec.limit
                    elif moment.what == "turn":
                        left = ending.when() - loop.time()
                        ending.cancel()
                        patience.reschedule(None)
                        announce(Ready("turn"))
                        pauses.append(await peer.pause(stdin.readline()))
                    else:
                        continue
                    ending = loop.call_later(left, peer.ask_to_end)
                    patience.reschedule(loop.time() + left + _END_S)
        except TimeoutError:
            raise ChildFailed(f"{spec.prepared.peer} did not end when asked to") from None
    batches = parse_account(await asyncio.to_thread(account.read_text))
    if any(batch.shard == _NO_SHARD for batch in batches):
        batches = located(batches, await _places(spec))
    started = moments["warm" if spec.window.warm_up else "began"]
    ended = moments["measured"]
    consumed = Consumed(
        started=started.clocks,
        ended=ended.clocks,
        paused=Standstill(
            wall=sum(pause.within(started.clocks.at, ended.clocks.at) for pause in pauses)
        ),
        records=ended.records - started.records,
        batches=batches,
        counters={},
    )
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(consumed))
    announce(Ready("done"))


def parse_account(text: str) -> list[DoneBatch]:
    """Read a peer's account."""
    batches = []
    for line in text.splitlines():
        shard, at, *sequences = line.split(" ")
        batches.append(DoneBatch(shard, float(at), sequences))
    return batches


def located(batches: list[DoneBatch], places: dict[str, tuple[str, str]]) -> list[DoneBatch]:
    """Replace events' ids by sequence numbers, with a batch for each run of one shard's.

    An id that no record has stays as it is, so that it will count as unknown.
    """
    found = []
    for batch in batches:
        records = [places.get(each, (_NO_SHARD, each)) for each in batch.sequences]
        for shard, run in itertools.groupby(records, key=lambda record: record[0]):
            found.append(DoneBatch(shard, batch.at, [sequence for _, sequence in run]))
    return found


async def _places(spec: PeerSpec) -> dict[str, tuple[str, str]]:
    """Return where each event of the stream is: its id -> shard and sequence number."""
    places: dict[str, tuple[str, str]] = {}
    config = StreamConfig(name=spec.stream, region="us-east-1", endpoint_url=spec.endpoint_url)
    async with open_kinesis(config) as client:
        for shard in await client.list_shards():
            iterator: str | None = await client.shard_iterator(shard.shard_id, TRIM_HORIZON)
            behind = True
            while iterator is not None and behind:
                answer = await client.get_records(iterator, _LIMIT)
                for record in answer.records:
                    event_id = read_envelope(record.data).id
                    places[event_id] = shard.shard_id, record.sequence_number
                iterator = answer.next_shard_iterator
                behind = bool(answer.millis_behind_latest)
    return places


@contextlib.asynccontextmanager
async def _started(spec: PeerSpec, account: Path) -> AsyncIterator[_Peer]:
    async with contextlib.AsyncExitStack() as stack:
        dynamodb = None
        if spec.prepared.dynamodb is not None:
            dynamodb = await stack.enter_async_context(running_dynamodb(spec.prepared.dynamodb))
            await _create_leases(spec, dynamodb)
        with pinned(spec.core):
            process = await asyncio.create_subprocess_exec(
                *spec.prepared.command,
                *_arguments(spec, dynamodb, account),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        peer = _Peer(spec, process)
        try:
            yield peer
            peer.ask_to_end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _create_leases(spec: PeerSpec, dynamodb: str) -> None:
    """Create the rows of a new application; KCL would wait up to 30 s before it does."""
    config = StreamConfig(name=spec.stream, region="us-east-1", endpoint_url=spec.endpoint_url)
    async with open_kinesis(config) as client:
        shards = await client.list_shards()
    options = {"endpoint_url": dynamodb, "region": "us-east-1"}
    store = await open_store("dynamodb", _APPLICATION, options)
    try:
        for lease in leases_to_create(shards, [], TRIM_HORIZON, time.time()):
            await store.create(lease)
    finally:
        await store.aclose()


def _arguments(spec: PeerSpec, dynamodb: str | None, account: Path) -> list[str]:
    window = spec.window
    if dynamodb is None:
        told = {
            "stream": spec.stream,
            "endpoint_url": spec.endpoint_url,
            "warm_up": window.warm_up,
            "measured_until": window.measured_until,
            "expected": window.expected,
            "turn": window.turn,
            "result": str(account),
        }
        return [msgspec.json.encode(told).decode()]
    numbers = [window.warm_up, window.measured_until, window.expected]
    # The emulator is new for each run, so every run's leases begin where the stream does.
    return [
        *(_APPLICATION, spec.stream, spec.endpoint_url, dynamodb),
        *[str(number) for number in numbers],
        str(account),
    ]


def _cpu(pid: int | None) -> float | None:
    return None if pid is None else cpu_seconds(pid)


async def _open_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=PeerSpec)
    pin(given.attendant_core)
    run_loop(attend(given))
