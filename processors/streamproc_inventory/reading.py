"""Stock as other services read it: over HTTP, with ETags."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from streamproc import Page, PageAnswer, PageRequest, Processor, StateReader
from streamproc_inventory.levels import Levels
from streamproc_inventory.stock import Stock

__all__ = ["locations_of", "pages", "stock_of", "stock_view"]

InventoryStates = Processor[Stock] | type[Processor[Stock]]
"""The inventory processor, or its class: who the states belong to and how they are read."""

_NOT_FOUND: Final = PageAnswer(status=404, body=b'{"error":"nothing is known of this stock"}')


def pages(
    processor: InventoryStates, states: StateReader, locations: Collection[str]
) -> list[Page]:
    """Return the pages of one stock, and of all stocks of an item.

    Args:
        processor: whose states the stocks are.
        states: reads them.
        locations: that there are, where they are listed.
    """

    async def of_stock(request: PageRequest) -> PageAnswer:
        sku, location_id = request.parts["sku"], request.parts["location"]
        stock = await stock_of(processor, states, sku, location_id)
        if stock is None:
            return _NOT_FOUND
        return _answer(request, stock_view(sku, location_id, stock), f'"{stock.version}"')

    async def of_item(request: PageRequest) -> PageAnswer:
        sku = request.parts["sku"]
        stocks = {}
        for location_id in sorted({*locations, *await locations_of(processor, states, sku)}):
            stock = await stock_of(processor, states, sku, location_id)
            if stock is not None:
                stocks[location_id] = stock
        if not stocks:
            return _NOT_FOUND
        versions = "|".join(f"{at}:{stock.version}" for at, stock in stocks.items())
        view = {
            "sku": sku,
            "total": _total(stocks),
            "locations": [stock_view(sku, at, stock) for at, stock in stocks.items()],
        }
        tag = blake2b(versions.encode(), digest_size=8).hexdigest()
        return _answer(request, view, f'"{tag}"')

    return [Page("/inventory/{sku}", of_item), Page("/inventory/{sku}/{location}", of_stock)]


async def stock_of(
    processor: InventoryStates, states: StateReader, sku: str, location_id: str
) -> Stock | None:
    """Return a stock; None if nothing is known of it."""
    stored = await states.get(processor.name, (sku, location_id))
    return None if stored is None else stored.as_state_of(processor)


async def locations_of(processor: InventoryStates, states: StateReader, sku: str) -> set[str]:
    """Return the locations at which something is known of an item."""
    counters = await states.get_counters(processor.name, (sku,))
    return set() if counters is None else set(counters.values.values)


def stock_view(sku: str, location_id: str, stock: Stock) -> dict[str, Any]:
    """Return a stock as JSON shows it."""
    book = stock.book
    return {
        "sku": sku,
        "location_id": location_id,
        **msgspec.structs.asdict(stock.levels),
        "oversold": stock.oversold,
        "order_lines_open": sum(book.open_units(key) > 0 for key in book.lines),
        "reservations_live": len(book.reservations),
        "waiting_for_sequence": len(book.parked),
        "over_closed": book.over_closed,
        "over_returned": book.over_returned,
        "counted_as_of": None if book.counted_ms is None else _time(book.counted_ms),
        "version": stock.version,
        "last_event": stock.last_event,
        "updated_at": _time(stock.updated_ms),
    }


def _answer(request: PageRequest, view: Mapping[str, Any], etag: str) -> PageAnswer:
    # `no-cache` lets others keep it, and has them ask whether it still holds.
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    asked = {
        tag.strip().removeprefix("W/")
        for tag in request.headers.get("if-none-match", "").split(",")
    }
    if etag in asked or "*" in asked:
        return PageAnswer(status=304, headers=headers)
    return PageAnswer(body=msgspec.json.encode(view), headers=headers)


def _total(stocks: Mapping[str, Stock]) -> dict[str, int]:
    names = (*Levels.__struct_fields__, "oversold")
    return {name: sum(getattr(stock, name) for stock in stocks.values()) for name in names}


def _time(ms: int) -> str:
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
