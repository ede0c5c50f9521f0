"""`streamproc demo`: the whole thing on one machine, with its proof."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="See it work: embedded servers, two workers, a kill, a split, a proof.",
    invoke_without_command=True,
)


@app.callback()
def demo(
    duration: Annotated[
        float, typer.Option(help="Seconds of publishing.", min=1, max=3_600)
    ] = 20.0,
    rate: Annotated[
        float, typer.Option(help="Records offered a second.", min=1, max=50_000)
    ] = 2_000.0,
    shards: Annotated[int, typer.Option(help="Shards of the stream.", min=2, max=64)] = 4,
    seed: Annotated[int, typer.Option(help="Equal seeds publish equal events.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers up afterwards, until Ctrl-C.")
    ] = False,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this Redis; it must not hold the group 'demo'.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print lines instead of a live screen.")
    ] = False,
) -> None:
    """Process a shop's day exactly once, through a kill -9 and a reshard, and prove it.

    Starts an embedded Kinesis and Redis and two workers, publishes a simulated shop's day and
    payments of the fraud reference world with 2 % duplicates and 0.1 % poison, splits a shard,
    kills a worker, and compares every result with the shop's own books and an independent
    computation. Exits with 0 only if all of it is right.
    """
    # Not above: `streamproc --help` loads this module, and does not need the rest.
    from streamproc.cli.loop import run_loop
    from streamproc_benchmarks.demo.performance import perform
    from streamproc_benchmarks.demo.settings import Options

    options = Options(
        duration=duration, rate=rate, shards=shards, seed=seed, redis_url=redis_url, keep=keep
    )
    raise typer.Exit(run_loop(perform(options, plain=plain)))
