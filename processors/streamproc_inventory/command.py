"""`streamproc inventory`: look at stock, follow it, hold it against its ledger, simulate a shop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from streamproc import ConfigError, StateReader
from streamproc.commands import (
    Config,
    ConfigOption,
    JsonOption,
    SetOption,
    print_json,
    run_loop,
    settings_of,
)
from streamproc_inventory.audit import Difference, audit_counted, audit_ledger, read_counted
from streamproc_inventory.ledger_file import LedgerReader, LedgerRow
from streamproc_inventory.ledger_sink import ledger_row
from streamproc_inventory.levels import Levels
from streamproc_inventory.processor import InventoryProcessor
from streamproc_inventory.reading import locations_of, stock_of, stock_view
from streamproc_inventory.simulation.command import simulate
from streamproc_inventory.stock import Stock

__all__ = ["app"]

app = typer.Typer(help="Look at stock, audit it, simulate a shop.", no_args_is_help=True)
app.command("simulate")(simulate)

_COLUMNS = ("on_hand", "committed", "reserved", "incoming", "damaged", "quality_control",
            "safety_stock", "available", "oversold", "version")  # fmt: skip

SkuArgument = Annotated[str, typer.Argument(help="The item.")]
LocationArgument = Annotated[
    str | None, typer.Argument(help="One location of it; all if left out.")
]
LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger", help="Where the inventory-ledger sink writes to; the sink's own path if unset."
    ),
]


@app.command()
def show(
    sku: Annotated[str | None, typer.Argument(help="The item; all items if left out.")] = None,
    location: LocationArgument = None,
    limit: Annotated[int, typer.Option(help="Most stocks shown, least available first.")] = 50,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is in stock now."""
    views = run_loop(_views(_settings(config, assignments), sku, location))
    views.sort(key=lambda view: (view["available"], view["sku"], view["location_id"]))
    if as_json:
        print_json(views[:limit])
        return
    names = [Column(name, no_wrap=True) for name in ("sku", "location")]
    table = Table(*names, *[name.replace("_", " ") for name in _COLUMNS], box=None)
    for view in views[:limit]:
        values = [str(view[name]) for name in _COLUMNS]
        table.add_row(
            view["sku"], view["location_id"], *values, style="red" if view["oversold"] else None
        )
    Console().print(table)
    if len(views) > limit:
        typer.echo(f"{len(views) - limit} more; see --limit")


@app.command()
def watch(
    sku: SkuArgument,
    location: LocationArgument = None,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.05)] = 0.5,
    times: Annotated[int | None, typer.Option(help="Stop after so many looks.", min=1)] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Print a line of JSON whenever the stock of an item has changed, until interrupted."""
    run_loop(_watch(_settings(config, assignments), sku, location, every, times))


@app.command()
def history(
    sku: SkuArgument,
    location: LocationArgument = None,
    ledger: LedgerOption = None,
    limit: Annotated[int, typer.Option(help="Most entries shown, latest last.")] = 50,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the ledger of an item: what changed its stock, why, and from what to what."""
    settings = _settings(config, assignments)
    rows = run_loop(_ledger(settings, _ledger_place(settings, ledger), sku, location))
    rows.sort(key=lambda row: (row.entry.location_id, row.entry.version))
    shown = rows[-limit:]
    if as_json:
        print_json([row.flat() for row in shown])
        return
    table = Table("location", "version", "time", "what", "units", "why", "on hand", "available",
                  "event", "who", "note", box=None)  # fmt: skip
    for row in shown:
        entry = row.entry
        table.add_row(
            entry.location_id,
            str(entry.version),
            row.time or "-",
            entry.what,
            str(entry.units),
            entry.why,
            _change(entry.before.on_hand, entry.after.on_hand),
            _change(entry.before.available, entry.after.available),
            entry.event_id,
            entry.who or "",
            entry.note,
        )
    Console().print(table)


@app.command()
def audit(
    ledger: LedgerOption = None,
    counted: Annotated[
        Path | None,
        typer.Option(help="A CSV or parquet file of counted stock: sku, location_id, quantity."),
    ] = None,
    every: Annotated[
        float | None, typer.Option(help="Go on, with so many seconds between audits.", min=1)
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow every stock's ledger from nothing to the stock, and compare with what was counted.

    Prints the differences, largest first; exits with 1 if there are any.
    """
    settings = _settings(config, assignments)
    place = _ledger_place(settings, ledger)
    counts = None if counted is None else read_counted(counted)
    sys.exit(run_loop(_audit(settings, place, counts, every, as_json)))


async def _views(settings: Config, sku: str | None, location: str | None) -> list[dict[str, Any]]:
    async with _reader(settings) as states:
        return [stock_view(*key, stock) async for key, stock in _stocks(states, sku, location)]


async def _stocks(
    states: StateReader, sku: str | None, location: str | None
) -> AsyncIterator[tuple[tuple[str, str], Stock]]:
    if sku is None:
        async for stored in states.scan(InventoryProcessor.name):
            yield (stored.key[0], stored.key[1]), stored.as_state_of(InventoryProcessor)
        return
    places = [location] if location else sorted(await locations_of(InventoryProcessor, states, sku))
    for place in places:
        found = await stock_of(InventoryProcessor, states, sku, place)
        if found is not None:
            yield (sku, place), found


async def _watch(
    settings: Config, sku: str, location: str | None, every: float, times: int | None
) -> None:
    seen: dict[str, int] = {}
    looks = 0
    async with _reader(settings) as states:
        while times is None or looks < times:
            async for (_, place), stock in _stocks(states, sku, location):
                if seen.get(place) != stock.version:
                    seen[place] = stock.version
                    print_json_line(stock_view(sku, place, stock))
            looks += 1
            await asyncio.sleep(every)


async def _ledger(
    settings: Config, place: str | None, sku: str | None, location: str | None
) -> list[LedgerRow]:
    """Return the entries that wait in the outbox and those that were written, each once."""
    async with _reader(settings) as states:
        waiting = [row async for row in _waiting(states)]
    written: Iterable[LedgerRow] = ()
    if place is not None:
        written = await asyncio.to_thread(lambda: list(LedgerReader(place).rows(sku, location)))
    found = {row.id: row for row in [*written, *waiting]}
    return [
        row
        for row in found.values()
        if sku in (None, row.entry.sku) and location in (None, row.entry.location_id)
    ]


async def _waiting(states: StateReader) -> AsyncIterator[LedgerRow]:
    async for event in states.outbox():
        if event.type == "LedgerEntry":
            yield ledger_row(event.data)


async def _audit(
    settings: Config,
    place: str | None,
    counts: dict[tuple[str, str], int] | None,
    every: float | None,
    as_json: bool,
) -> int:
    while True:
        # In this order: what leaves the outbox meanwhile is found in the files that are read last.
        async with _reader(settings) as states:
            stocks: dict[tuple[str, str], tuple[int, Levels]] = {
                key: (stock.version, stock.levels)
                async for key, stock in _stocks(states, None, None)
            }
        rows = await _ledger(settings, place, None, None)
        differences = audit_ledger(stocks, rows)
        if counts is not None:
            differences += audit_counted(stocks, counts)
        _report(stocks, rows, differences, as_json)
        if every is None:
            return 1 if differences else 0
        await asyncio.sleep(every)


def _report(
    stocks: dict[tuple[str, str], tuple[int, Levels]],
    rows: list[LedgerRow],
    differences: list[Difference],
    as_json: bool,
) -> None:
    if as_json:
        print_json({"stocks": len(stocks), "entries": len(rows), "differences": differences})
        return
    if differences:
        table = Table("sku", "location", "units", "difference", box=None)
        for found in differences:
            table.add_row(found.sku, found.location_id, f"{found.units:+}", found.text)
        Console().print(table)
    total = sum(levels.on_hand for _, levels in stocks.values())
    typer.echo(
        f"{len(stocks):,} stocks with {total:,} on hand, {len(rows):,} ledger entries: "
        f"{len(differences):,} differences"
    )


def print_json_line(view: dict[str, Any]) -> None:
    """Print one object on one line, at once."""
    import msgspec

    sys.stdout.write(f"{msgspec.json.encode(view).decode()}\n")
    sys.stdout.flush()


def _settings(config: Path | None, assignments: list[str] | None) -> Config:
    settings = settings_of(config, assignments)
    if not settings.group:
        raise ConfigError("group: set it in the configuration file, or with --set group=NAME")
    return settings


def _reader(settings: Config) -> StateReader:
    redis = settings.redis
    return StateReader(redis.url, settings.group, timeout=redis.timeout, cluster=redis.cluster)


def _ledger_place(settings: Config, given: str | None) -> str | None:
    """Return where the ledger's files are: as given, else as the configured sink has it."""
    if given is None and settings.outbox.sink == "inventory-ledger":
        return str(settings.outbox.options.get("path"))
    return given


def _change(before: int, after: int) -> str:
    return str(after) if before == after else f"{before} -> {after}"
