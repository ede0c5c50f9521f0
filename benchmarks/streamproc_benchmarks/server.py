"""The servers' process: LocalKinesis, and a real Redis as its child, until stdin is closed.

Lines on stdin have it offer records, from within, so that no producer takes the servers' core.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import redis.asyncio

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.testing import EmbeddedRedis, LocalKinesis
from streamproc.testing.localkinesis.prepared import PreparedRecord, PreparedStream, prepare_record
from streamproc_benchmarks.open_loop import OpenLoop
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce, await_turn
from streamproc_benchmarks.workloads import WorkloadName, make_entries

__all__ = [
    "Carried",
    "Delete",
    "Offer",
    "Prepare",
    "Rest",
    "ServerSpec",
    "Servers",
    "redis_version",
]


class ServerSpec(msgspec.Struct, frozen=True):
    """Which core to run on, and streams to begin with: name to number of shards."""

    core: int | None
    streams: dict[str, int]


class Servers(msgspec.Struct, frozen=True):
    """Where the servers listen, and their processes."""

    endpoint_url: str
    redis_url: str
    server_pid: int
    redis_pid: int


class Prepare(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A line to the servers: have the records of a workload ready to be offered."""

    workload: WorkloadName
    count: int
    seed: int


class Offer(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A line to the servers: offer the first `count` of the prepared records to a stream.

    Attributes:
        rate: records a second.
        result: the file to write the `Offered` to, as MessagePack.
    """

    stream: str
    workload: WorkloadName
    count: int
    rate: float
    result: str


class Delete(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A line to the servers: delete a stream and the records in it."""

    stream: str


class Rest(msgspec.Struct, frozen=True, tag=True):
    """A line to the servers: stand still, after the answer to this, until the next line."""


class Carried(msgspec.Struct, frozen=True):
    """The servers' answer to a line, once it is done."""


# Redis may be stopped in a script's midst, and then has not been busy with it for all that time.
_PATIENT: Final = {"lua-time-limit": "0"}

_Order = Prepare | Offer | Delete | Rest


async def redis_version(url: str) -> str:
    """Return what the Redis server calls itself, such as ``valkey 9.1.2``."""
    async with redis.asyncio.Redis.from_url(url) as client:
        info: dict[str, Any] = await client.info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


class _Orders:
    """What the servers do when they are told to."""

    def __init__(self, kinesis: LocalKinesis, store: EmbeddedRedis) -> None:
        self._kinesis = kinesis
        self._store = store
        self._prepared: dict[WorkloadName, list[PreparedRecord]] = {}

    async def carry_out(self, order: _Order) -> None:
        match order:
            case Prepare():
                entries = make_entries(order.workload, order.count, order.seed)
                self._prepared[order.workload] = [
                    prepare_record(entry.partition_key, entry.data) for entry in entries
                ]
                del entries
                calm_collector()
            case Offer():
                stream = PreparedStream(self._kinesis.core, order.stream)
                loop = OpenLoop(stream, order.rate)
                await loop.run(self._prepared[order.workload][: order.count])
                account = msgspec.msgpack.encode(loop.offered())
                await asyncio.to_thread(Path(order.result).write_bytes, account)
            case Delete():
                self._kinesis.core.call("DeleteStream", StreamName=order.stream)
            case Rest():
                self._store.pause()
                announce(Carried())
                await_turn()
                self._store.resume()
                return
        announce(Carried())


async def _serve(spec: ServerSpec) -> None:
    async with EmbeddedRedis(config=_PATIENT) as store, LocalKinesis() as kinesis:
        for name, shards in spec.streams.items():
            kinesis.core.call("CreateStream", StreamName=name, ShardCount=shards)
        announce(Servers(kinesis.endpoint_url, store.url, os.getpid(), store.pid))
        orders = _Orders(kinesis, store)
        # The end of stdin is the parent's word to stop, and comes also when the parent dies.
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            await orders.carry_out(msgspec.json.decode(line, type=_Order))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=ServerSpec)
    pin(given.core)
    run_loop(_serve(given))
