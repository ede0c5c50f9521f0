"""The servers' process: LocalKinesis, and a real Redis as its child, until stdin is closed."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec
import redis.asyncio

from streamproc.cli.loop import run_loop
from streamproc.testing import EmbeddedRedis, LocalKinesis
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce

__all__ = ["ServerSpec", "Servers", "redis_version"]


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


async def redis_version(url: str) -> str:
    """Return what the Redis server calls itself, such as ``valkey 9.1.2``."""
    async with redis.asyncio.Redis.from_url(url) as client:
        info: dict[str, Any] = await client.info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


async def _serve(spec: ServerSpec) -> None:
    async with EmbeddedRedis() as store, LocalKinesis() as kinesis:
        for name, shards in spec.streams.items():
            kinesis.core.call("CreateStream", StreamName=name, ShardCount=shards)
        announce(Servers(kinesis.endpoint_url, store.url, os.getpid(), store.pid))
        # The end of stdin is the parent's word to stop, and comes also when the parent dies.
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=ServerSpec)
    pin(given.core)
    run_loop(_serve(given))
