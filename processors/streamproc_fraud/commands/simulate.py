"""`streamproc fraud simulate`: the reference world, into a file or onto a stream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streamproc import ConfigError
from streamproc_fraud.commands.extras import needs_extra
from streamproc_fraud.commands.options import Customers, Radius, Terminals, WorldDays

__all__ = ["simulate"]


def simulate(
    out: Annotated[Path | None, typer.Option(help="Write this parquet file.")] = None,
    stream: Annotated[str | None, typer.Option(help="Put onto this Kinesis stream.")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="Endpoint of Kinesis, if not AWS's own.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Records a second. [default: as they are taken]", min=1)
    ] = None,
    duplicates: Annotated[
        float, typer.Option(help="Share of events that come again.", min=0, max=1)
    ] = 0.0,
    labels: Annotated[bool, typer.Option(help="Tell of frauds seven days later.")] = True,
    first_day: Annotated[int, typer.Option(help="First day to emit, from 0.", min=0)] = 0,
    days: Annotated[int | None, typer.Option(help="Days to emit. [default: all]", min=1)] = None,
    customers: Customers = 5_000,
    terminals: Terminals = 10_000,
    world_days: WorldDays = 183,
    radius: Radius = 5.0,
    seed: Annotated[int, typer.Option(help="Chooses the duplicates.")] = 1,
) -> None:
    """Simulate card payments with three kinds of fraud, always the same ones.

    The defaults make the world of the Fraud Detection Handbook: 1,754,155 payments from
    2018-04-01 to 2018-09-30, 14,681 of them frauds.
    """
    if (out is None) is (stream is None):
        raise ConfigError("simulate: give --out FILE.parquet or --stream NAME")
    with needs_extra("fraud"):
        from streamproc_fraud.world import simulator
        from streamproc_fraud.world.parquet import write_parquet
        from streamproc_fraud.world.publish import kinesis_client, publish, records_of
    everything = simulator.simulate(
        simulator.World(customers=customers, terminals=terminals, days=world_days, radius=radius)
    )
    end = world_days if days is None else min(world_days, first_day + days)
    chosen = everything.between(first_day, end)
    if out is not None:
        write_parquet(chosen, out)
        typer.echo(f"{out}: {len(chosen.t):,} payments, {int(chosen.fraud.sum()):,} frauds")
        return
    first_number = len(everything.between(0, first_day).t)
    records = records_of(
        chosen, first_number=first_number, labels=labels, duplicates=duplicates, seed=seed
    )

    async def put() -> int:
        async with kinesis_client(endpoint_url, region) as client:
            return await publish(client, str(stream), records, rate=rate)

    typer.echo(f"{stream}: {asyncio.run(put()):,} records put")
