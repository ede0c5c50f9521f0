"""What becomes of order lines: placed, promised, cancelled, shipped, returned, given up."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import changes as c
from streamproc_inventory.book import Book, Limits, Line
from streamproc_inventory.goods import move, put
from streamproc_inventory.outcome import Cause, Effect, Outcome
from streamproc_inventory.register import look_up
from streamproc_inventory.reservations import end
from streamproc_inventory.stock import Stock

__all__ = ["EFFECTS"]


def _place(
    stock: Stock, change: c.Placed, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    book, key, units, note = stock.book, change.line, change.quantity, None
    if key in book.lines or look_up(book.settled, key) is not None:
        note = _place_known(stock, change, limits, outcome)
    else:
        book.make_room(limits)
        book.lines[key] = units
        stock.committed += units
    if change.reservation is not None:
        end(stock, change.reservation, "committed", cause, limits, outcome)
    return note


def _place_known(stock: Stock, change: c.Placed, limits: Limits, outcome: Outcome) -> str | None:
    line = _take_up(stock, change.line, limits)
    note = None
    if line.placed:
        text = f"{line.placed} were placed before"
        outcome.find("placed-twice", change.line, change.quantity, text)
        note = "placed before; nothing changed"
    else:
        line.placed, line.since_ms = change.quantity, 0
    _put_down(stock, change.line, line, limits, outcome)
    return note


def _cancel(
    stock: Stock, change: c.Cancelled, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    line = _take_up(stock, change.line, limits)
    line.cancelled += change.quantity
    _wait(line, cause.time_ms)
    _put_down(stock, change.line, line, limits, outcome)
    return None


def _ship(
    stock: Stock, change: c.Shipped, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    book, key, units = stock.book, change.line, change.quantity
    if book.lines.get(key) == units:
        # All of what was placed, and nothing else is known of it: as nearly always.
        del book.lines[key]
        stock.committed -= units
        book.settle(key, str(units), limits)
    else:
        line = _take_up(stock, key, limits)
        line.shipped += units
        _wait(line, cause.time_ms)
        _put_down(stock, key, line, limits, outcome)
    return move(stock, -units, cause.time_ms, limits)


def _return(
    stock: Stock, change: c.Returned, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    line = _take_up(stock, change.line, limits)
    line.returned += change.quantity
    _wait(line, cause.time_ms)
    _put_down(stock, change.line, line, limits, outcome)
    put(stock, change.bucket, change.quantity, cause.event_id, outcome)
    return move(stock, change.quantity, cause.time_ms, limits)


def _commit(
    stock: Stock, change: c.Committed, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    note = end(stock, change.reservation, "committed", cause, limits, outcome)
    line = _take_up(stock, change.line, limits)
    line.promised += change.quantity
    _wait(line, cause.time_ms)
    _put_down(stock, change.line, line, limits, outcome)
    return note


def _give_up(
    stock: Stock, change: c.Forgotten, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    line = stock.book.waiting_lines()[change.line]
    del stock.book.lines[change.line]
    stock.committed -= line.open
    text = f"{line.shipped} shipped, {line.cancelled} cancelled, {line.promised} promised"
    outcome.find("order-forgotten", change.line, line.shipped, f"{text}, and no order came")
    return None


EFFECTS: Final[dict[type, Effect]] = {
    c.Placed: _place,
    c.Cancelled: _cancel,
    c.Shipped: _ship,
    c.Returned: _return,
    c.Committed: _commit,
    c.Forgotten: _give_up,
}
"""By kind of change."""


def _take_up(stock: Stock, key: str, limits: Limits) -> Line:
    """Return what is known of a line, or a new one, for `_put_down` to put back.

    Until then, its units count for nothing.
    """
    book = stock.book
    line = book.known_line(key)
    if line is None:
        book.make_room(limits)
        return Line()
    stock.committed -= line.open
    if line.may_contradict:
        book.over_closed -= line.over_closed
        book.over_returned -= line.over_returned
    return line


def _put_down(stock: Stock, key: str, line: Line, limits: Limits, outcome: Outcome) -> None:
    """Put a line back, whatever it has become."""
    book = stock.book
    stock.committed += line.open
    book.unsettle(key)
    if line.is_needed:
        book.lines[key] = line.short
        if not line.placed:
            outcome.waits = True
    else:
        book.lines.pop(key, None)
        book.settle(key, line.settled, limits)
    if line.may_contradict:
        _tell_contradictions(book, key, line, outcome)


def _tell_contradictions(book: Book, key: str, line: Line, outcome: Outcome) -> None:
    if over := line.over_closed:
        book.over_closed += over
        text = f"{line.placed} placed, {line.cancelled} cancelled, {line.shipped} shipped"
        outcome.find("over-closed", key, over, text)
    if over := line.over_returned:
        book.over_returned += over
        text = f"{line.shipped} shipped, {line.returned} returned"
        outcome.find("over-returned", key, over, text)


def _wait(line: Line, time_ms: int) -> None:
    """Note since when a line waits for its order."""
    if not line.placed and (not line.since_ms or time_ms < line.since_ms):
        line.since_ms = time_ms
