"""What becomes of reservations: held, then ended once, by the first of several ends."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import changes as c
from streamproc_inventory.book import Ended, Limits, Reservation, Waiting
from streamproc_inventory.outcome import Cause, Effect, Outcome
from streamproc_inventory.register import look_up
from streamproc_inventory.stock import Stock

__all__ = ["EFFECTS", "end", "units_due"]


def units_due(stock: Stock, reservation: str, now_ms: int) -> int:
    """Return the units that a reservation whose time is up still holds; 0 if it is not due."""
    held = stock.book.reservations.get(reservation)
    return 0 if held is None or held.expires_ms > now_ms else held.quantity


def end(
    stock: Stock, key: str, ended: Ended, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    """Bring a reservation into a terminal state, unless it is in one; return what to note of it."""
    book = stock.book
    held = book.reservations.pop(key, None)
    if held is not None:
        stock.reserved -= held.quantity
        outcome.ended += (key,)
        book.note_end(key, ended, limits)
        return None
    before = look_up(book.ended, key)
    if before is None and key in book.early:
        before = book.early[key].ended
    if before is None:
        book.make_room(limits)
        book.early[key] = Waiting(ended, cause.time_ms)
        outcome.waits = True
        return "not created yet"
    # Its own order and its own commit say the same of it, in either order.
    if not (before == ended == "committed"):
        text = f"{ended} after it was {before}"
        outcome.find("reservation-ended", key, 0, text)
    return f"{before} before"


def _reserve(
    stock: Stock, change: c.Reserved, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    book, key = stock.book, change.reservation
    waiting = book.early.pop(key, None)
    if waiting is not None:
        book.note_end(key, waiting.ended, limits)
        return f"{waiting.ended} already"
    if key in book.reservations or look_up(book.ended, key) is not None:
        text = "a reservation of this id was there before"
        outcome.find("reserved-twice", key, change.quantity, text)
        return "reserved before; nothing changed"
    book.make_room(limits)
    book.reservations[key] = Reservation(change.quantity, change.expires_ms)
    stock.reserved += change.quantity
    outcome.expiries += ((key, change.expires_ms),)
    return None


def _release(
    stock: Stock, change: c.Released, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    return end(stock, change.reservation, "released", cause, limits, outcome)


def _expire(
    stock: Stock, change: c.Expired, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    return end(stock, change.reservation, "expired", cause, limits, outcome)


EFFECTS: Final[dict[type, Effect]] = {
    c.Reserved: _reserve,
    c.Released: _release,
    c.Expired: _expire,
}
"""By kind of change; a commit is one of the order line's."""
