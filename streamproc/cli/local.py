"""`streamproc local`: the embedded Kinesis and Redis in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.loop import run_loop
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc.testing import LocalKinesis

__all__ = ["local"]

_HINT = """\
Put them into streamproc.toml as stream.endpoint_url and redis.url. Any AWS client works with
--endpoint-url and AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_REGION=us-east-1.
Ctrl-C ends both; nothing is kept."""


def local(
    port: Annotated[int, typer.Option(help="Port of the Kinesis endpoint; 0 picks one.")] = 4567,
    redis_port: Annotated[int, typer.Option(help="Port of the Redis server; 0 picks one.")] = 6399,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this Redis instead of starting one.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Create this stream, ready for use.")] = None,
    shards: Annotated[int, typer.Option(help="Shards of that stream.", min=1)] = 4,
) -> None:
    """Serve Kinesis and Redis on loopback, in memory, until interrupted."""
    run_loop(_serve(port, redis_port, redis_url, stream, shards))


async def _serve(
    port: int, redis_port: int, redis_url: str | None, stream: str | None, shards: int
) -> None:
    from streamproc.testing import LocalKinesis

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        if redis_url is None:
            redis_url = await _start_redis(stack, redis_port)
        kinesis = LocalKinesis(port=port)
        try:
            await stack.enter_async_context(kinesis)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror or error}; name a free port, or 0 for any"
            ) from error
        if stream is not None:
            _create(kinesis, stream, shards)
        typer.echo(f"kinesis  {kinesis.endpoint_url}")
        typer.echo(f"redis    {redis_url}")
        if stream is not None:
            typer.echo(f"stream   {stream} ({shards} shards)")
        typer.echo(_HINT)
        await stopped.wait()


def _create(kinesis: LocalKinesis, stream: str, shards: int) -> None:
    from streamproc.testing.localkinesis.errors import KinesisError

    try:
        kinesis.core.call("CreateStream", StreamName=stream, ShardCount=shards)
    except KinesisError as error:
        raise ConfigError(f"--stream {stream!r} --shards {shards}: {error}") from error


async def _start_redis(stack: contextlib.AsyncExitStack, port: int) -> str:
    from streamproc.testing import EmbeddedRedis
    from streamproc.testing.embedded_redis import EmbeddedRedisError

    try:
        server = await stack.enter_async_context(EmbeddedRedis(port=port))
    except EmbeddedRedisError as error:
        raise ConfigError(
            f"--redis-port {port}: {error}\n"
            "If the port is in use, name a free one, or 0 for any; or use a Redis by --redis-url."
        ) from error
    return server.url
