"""When a stock's availability is worth a word: thresholds crossed, each told once."""

from __future__ import annotations

from collections.abc import Sequence

from streamproc import Event
from streamproc_inventory.notices import BackInStock, Oversold, StockLow
from streamproc_inventory.stock import Stock

__all__ = ["crossings"]


def crossings(
    stock: Stock, sku: str, location_id: str, before: int, low: int, rearm: int
) -> Sequence[Event]:
    """Return what to say of a stock whose available was `before`, and note what was said.

    Args:
        stock: as it is now.
        sku: its item.
        location_id: its location.
        before: available before the event.
        low: the processor's own threshold for `StockLow`, where the stock's policy has none.
        rearm: what available must rise above before it is told again; likewise.
    """
    now, book = stock.available, stock.book
    if book.low_stock is not None:
        low = book.low_stock
        rearm = low if book.low_stock_rearm is None else book.low_stock_rearm
    if before > 0 < now and book.armed and now > low:
        return ()  # most of the time
    said: list[Event] = []
    if before >= 0 > now:
        said.append(
            Oversold(
                sku=sku,
                location_id=location_id,
                oversold=stock.oversold,
                on_hand=stock.on_hand,
                committed=stock.committed,
                reserved=stock.reserved,
                available=now,
                version=stock.version,
            )
        )
    if before <= 0 < now:
        said.append(
            BackInStock(
                sku=sku,
                location_id=location_id,
                available=now,
                on_hand=stock.on_hand,
                version=stock.version,
            )
        )
    if now > rearm:
        book.armed = True
    elif now <= low and book.armed:
        book.armed = False
        said.append(
            StockLow(
                sku=sku,
                location_id=location_id,
                available=now,
                threshold=low,
                rearm=rearm,
                incoming=stock.incoming,
                version=stock.version,
            )
        )
    return said
