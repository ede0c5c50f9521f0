"""`streamproc local`: the embedded Kinesis and Redis in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated

import typer

from streamproc.cli.loop import run_loop

__all__ = ["local"]


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
    from streamproc.testing import EmbeddedRedis, LocalKinesis

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        if redis_url is None:
            server = await stack.enter_async_context(EmbeddedRedis(port=redis_port))
            redis_url = server.url
        kinesis = await stack.enter_async_context(LocalKinesis(port=port))
        if stream is not None:
            kinesis.core.call("CreateStream", StreamName=stream, ShardCount=shards)
        typer.echo(f"kinesis  {kinesis.endpoint_url}")
        typer.echo(f"redis    {redis_url}")
        if stream is not None:
            typer.echo(f"stream   {stream} ({shards} shards)")
        typer.echo(
            "in streamproc.toml: stream.endpoint_url and redis.url as above; any AWS client works "
            "with --endpoint-url and AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x "
            "AWS_REGION=us-east-1. Ctrl-C ends both; nothing is kept."
        )
        await stopped.wait()
