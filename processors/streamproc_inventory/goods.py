"""What goods do: they arrive, leave, are on their way, change condition, and are counted."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import changes as c
from streamproc_inventory.book import Limits
from streamproc_inventory.moves import add_move, units_after, without_oldest
from streamproc_inventory.outcome import Cause, Effect, Outcome
from streamproc_inventory.stock import Stock

__all__ = ["EFFECTS", "move", "put"]


def move(stock: Stock, units: int, time_ms: int, limits: Limits) -> str | None:
    """Add goods to on_hand, unless a count of a later moment has them already."""
    book = stock.book
    if book.counted_ms is not None and time_ms <= book.counted_ms:
        return f"in count {book.counted_by}"
    stock.on_hand += units
    if book.folded_ms is None or time_ms > book.folded_ms:
        book.moves = add_move(book.moves, time_ms, units)
        book.moves_kept += 1
        if book.moves_kept > limits.moves:
            book.folded_ms, number, book.moves = without_oldest(book.moves)
            book.moves_kept -= number
    return None


def put(stock: Stock, bucket: c.Bucket, units: int, event_id: str, outcome: Outcome) -> None:
    """Add goods to those that are on hand and not available."""
    if bucket == "available":
        return
    short = f"{bucket}_short"
    total = getattr(stock, bucket) - getattr(stock.book, short) + units
    setattr(stock, bucket, max(total, 0))
    setattr(stock.book, short, max(-total, 0))
    if total < 0 and units < 0:
        kind = "negative-damaged" if bucket == "damaged" else "negative-quality-control"
        text = f"{-total} more were taken out than had been put in; shown as 0"
        outcome.find(kind, event_id, -total, text)


def _receive(
    stock: Stock, change: c.Received, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    stock.incoming -= change.from_incoming
    return move(stock, change.quantity, cause.time_ms, limits)


def _expect(
    stock: Stock, change: c.Expected | c.Transit, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    stock.incoming += change.quantity
    return None


def _dispatch(
    stock: Stock, change: c.Dispatched, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    return move(stock, -change.quantity, cause.time_ms, limits)


def _arrive(
    stock: Stock, change: c.Arrived, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    stock.incoming -= change.quantity
    return move(stock, change.quantity, cause.time_ms, limits)


def _lose(
    stock: Stock, change: c.Lost, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    stock.incoming -= change.quantity
    return None


def _adjust(
    stock: Stock, change: c.Adjusted, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    put(stock, change.bucket, change.quantity, cause.event_id, outcome)
    return move(stock, change.quantity, cause.time_ms, limits)


def _count(
    stock: Stock, change: c.Counted, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    book, as_of, event_id = stock.book, change.as_of_ms, cause.event_id
    if change.through is not None and change.through > book.sequence:
        book.sequence = change.through
    reason = None
    if book.counted_ms is not None and (as_of, event_id) < (book.counted_ms, book.counted_by):
        reason = f"count {book.counted_by} is of a later moment"
    elif book.folded_ms is not None and as_of < book.folded_ms:
        reason = "too many goods moved since that moment to bring it up to date"
    if reason is not None:
        outcome.find("outdated-count", event_id, 0, reason)
        return f"outdated: {reason}; nothing changed"
    moved, later = units_after(book.moves, as_of)
    expected = stock.on_hand - moved
    drift = change.quantity - expected
    stock.on_hand += drift
    book.moves, book.moves_kept = later, later.count(" ")
    book.counted_ms, book.counted_by = as_of, event_id
    if drift:
        text = f"{expected} were expected at that moment"
        outcome.find("drift", event_id, drift, text)
    return None


EFFECTS: Final[dict[type, Effect]] = {
    c.Received: _receive,
    c.Expected: _expect,
    c.Transit: _expect,
    c.Dispatched: _dispatch,
    c.Arrived: _arrive,
    c.Lost: _lose,
    c.Adjusted: _adjust,
    c.Counted: _count,
}
"""By kind of change."""
