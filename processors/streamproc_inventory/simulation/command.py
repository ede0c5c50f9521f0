"""`streamproc inventory simulate`: a shop's events into a stream or a file."""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from streamproc import ConfigError, OutgoingEvent, open_sink
from streamproc.commands import run_loop
from streamproc_inventory.ledger_file import open_files
from streamproc_inventory.simulation.disorder import Delivery, Disorder, deliveries
from streamproc_inventory.simulation.shop import Shop, ShopSettings

__all__ = ["simulate"]

_PUT: Final = 500
_AFTERMATH_HOURS: Final = 12
"""How long after the last order its shipments and returns go on."""


class _Envelope(msgspec.Struct):
    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    datacontenttype: str
    data: Any


def simulate(
    orders: Annotated[int, typer.Option(help="About how many orders are placed.", min=1)] = 1_000,
    skus: Annotated[int, typer.Option(help="Items; a tenth of them are kits.", min=4)] = 100,
    hours: Annotated[float, typer.Option(help="Hours of the simulated day.", min=0.1)] = 24.0,
    start: Annotated[
        datetime | None, typer.Option(help="When it begins, UTC; unset: so that it is over now.")
    ] = None,
    zipf: Annotated[float, typer.Option(help="Skew of demand; 0 is none.", min=0)] = 1.0,
    duplicates: Annotated[float, typer.Option(help="Share that comes twice.", min=0, max=1)] = 0.02,
    reordered: Annotated[float, typer.Option(help="Share that comes late.", min=0, max=1)] = 0.05,
    gaps: Annotated[
        float, typer.Option(help="Share of numbered events that comes very late.", min=0, max=1)
    ] = 0.001,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 1,
    stream: Annotated[str | None, typer.Option(help="Put them into this Kinesis stream.")] = None,
    region: Annotated[str | None, typer.Option(help="Its region.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Another Kinesis endpoint.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Records a second; unset: all at once.")
    ] = None,
    parquet: Annotated[
        str | None, typer.Option(help="Write them to this parquet file (or s3:// address).")
    ] = None,
    stock: Annotated[
        Path | None, typer.Option(help="Write the stock that they lead to into this CSV file.")
    ] = None,
) -> None:
    """Simulate a shop with suppliers, returns, kits, shrinkage, counts and two warehouses."""
    if stream is None and parquet is None:
        raise ConfigError("simulate: say where to: --stream NAME or --parquet FILE")
    day = timedelta(hours=hours + _AFTERMATH_HOURS)
    begins = datetime.now(UTC) - day if start is None else start.replace(tzinfo=UTC)
    settings = ShopSettings(skus=skus, hours=hours, start=begins, orders=orders, zipf=zipf)
    shop = Shop(seed, settings)
    disorder = Disorder(duplicates=duplicates, reordered=reordered, gaps=gaps)
    arriving = list(deliveries(shop.happenings(), disorder, seed))
    if parquet is not None:
        _write(parquet, arriving)
    if stream is not None:
        options = {"stream": stream, "region": region, "endpoint_url": endpoint_url}
        given = {name: value for name, value in options.items() if value is not None}
        run_loop(_put(given, arriving, rate))
    if stock is not None:
        _write_stock(stock, shop)
    again = sum(each.is_again for each in arriving)
    typer.echo(
        f"{len(arriving) - again:,} events and {again:,} duplicates of {len(shop.shelves):,} stocks"
    )


def _events(arriving: list[Delivery]) -> Iterator[OutgoingEvent]:
    for number, each in enumerate(arriving):
        event, cls = each.happening.event, type(each.happening.event)
        # A producer that repeats itself makes a new envelope; the business id tells.
        envelope = _Envelope(
            specversion="1.0",
            id=f"sim-{number}",
            source="streamproc/simulated-shop",
            type=f"{cls.__event_type__}.v{cls.__event_version__}",
            time=each.happening.time,
            datacontenttype="application/json",
            data=event,
        )
        yield OutgoingEvent(
            id=envelope.id,
            type=cls.__event_type__,
            key=each.happening.key,
            cause="",
            data=msgspec.json.encode(envelope),
        )


async def _put(options: dict[str, Any], arriving: list[Delivery], rate: float | None) -> None:
    sink = await open_sink("kinesis", options)
    events, sent, started = _events(arriving), 0, time.monotonic()
    try:
        while batch := list(islice(events, _PUT if rate is None else max(1, int(rate / 10)))):
            while batch:
                done = await sink.send(batch)
                batch = [event for at, event in enumerate(batch) if at not in done]
                sent += len(done)
            if rate is not None:
                await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
    finally:
        await sink.aclose()


def _write(place: str, arriving: list[Delivery]) -> None:
    files, path = open_files(place)
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = [
        {"partition_key": event.key, "data": event.data, "is_again": each.is_again}
        for event, each in zip(_events(arriving), arriving, strict=True)
    ]
    try:
        parquet.write_table(pa.Table.from_pylist(rows), str(path), filesystem=files)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written: {error}") from error


def _write_stock(path: Path, shop: Shop) -> None:
    """Write the books in the columns that the audit's --counted reads, and the other levels."""
    names = ("on_hand", "committed", "incoming", "damaged", "quality_control", "safety_stock")
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["sku", "location_id", "quantity", *names[1:], "available", "physical"])
            for (sku, location_id), shelf in sorted(shop.shelves.items()):
                levels = [getattr(shelf, name) for name in names]
                out.writerow([sku, location_id, *levels, shelf.available, shelf.physical])
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error
