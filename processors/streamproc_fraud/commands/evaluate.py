"""`streamproc fraud evaluate`: how good the score is, through the stream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamproc_fraud.commands.extras import needs_extra
from streamproc_fraud.commands.options import Customers, Radius, Terminals, WorldDays

__all__ = ["evaluate"]


def evaluate(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the precision-recall curve, PNG or SVG.")
    ] = None,
    shards: Annotated[int, typer.Option(help="Shards of the stream.", min=1)] = 1,
    duplicates: Annotated[
        float, typer.Option(help="Share of records that come again.", min=0, max=1)
    ] = 0.0,
    bucketed: Annotated[
        bool, typer.Option("--bucketed", help='Run with precision = "bucketed".')
    ] = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Payments to judge. [default: the reference world]")
    ] = None,
    train_start: Annotated[int, typer.Option(help="First day of the training period.")] = 115,
    customers: Customers = 5_000,
    terminals: Terminals = 10_000,
    world_days: WorldDays = 183,
    radius: Radius = 5.0,
) -> None:
    """Score a test week through Kinesis, a worker and Redis, and measure the scores.

    The handbook's protocol: the week from 2018-08-08 on, without cards that are known to be
    defrauded by then. Payments of 38 days before it and their labels go through the stream first.
    """
    with needs_extra("fraud"):
        import msgspec

        from streamproc_fraud.evaluation.protocol import Weeks, judged, measure
        from streamproc_fraud.evaluation.report import comparison
        from streamproc_fraud.evaluation.report import plot as draw
        from streamproc_fraud.evaluation.stream import score_through_stream
        from streamproc_fraud.world import simulator
        from streamproc_fraud.world.parquet import read_parquet
    weeks = Weeks(train_start=train_start)
    if parquet is not None:
        transactions = read_parquet(parquet)
    else:
        world = simulator.World(
            customers=customers, terminals=terminals, days=world_days, radius=radius
        )
        transactions = simulator.simulate(world)
    errors = Console(stderr=True)
    with errors.status("starting") as status:
        streamed = asyncio.run(
            score_through_stream(
                transactions,
                weeks,
                shards=shards,
                duplicates=duplicates,
                settings='precision = "bucketed"' if bucketed else "",
                progress=status.update,
            )
        )
    rows = judged(transactions, weeks)
    scores = streamed.scores[rows]
    quality = measure(transactions, rows, scores)
    labels = transactions.fraud[rows]
    if plot is not None:
        draw(labels, scores, quality, plot)
    found = {
        **msgspec.to_builtins(quality),
        "payments": len(rows),
        "frauds": int(labels.sum()),
        "mean_score": float(scores.mean()),
        "records": streamed.records,
        "seconds": round(streamed.seconds, 1),
        "worker_cpu_seconds": round(streamed.cpu_seconds, 1),
    }
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    console = Console(width=None if Console().is_terminal else 120)
    console.print(
        f"{found['payments']:,} payments, {found['frauds']:,} of them frauds "
        f"({labels.mean():.2%}; the mean score is {scores.mean():.2%})"
    )
    console.print(comparison(quality, "streamproc: shipped scorecard, through the stream"))
    console.print(
        f"{streamed.records:,} records through {shards} shard{'s' if shards > 1 else ''} in "
        f"{streamed.seconds:.0f} s, {streamed.cpu_seconds:.0f} s CPU time of the worker"
    )
    if plot is not None:
        console.print(f"precision-recall curve: {plot}")
