"""Numbered events: applied in the order of a stock's own sequence, whatever order they come in."""

from __future__ import annotations

from streamproc import Reject
from streamproc_inventory import changes as c
from streamproc_inventory.book import Limits, Parked
from streamproc_inventory.changes import Change
from streamproc_inventory.outcome import Cause, Outcome
from streamproc_inventory.posting import post
from streamproc_inventory.stock import Stock

__all__ = ["give_up_gap", "take", "tell_gap"]


def take(
    stock: Stock,
    change: Change,
    sequence: int | None,
    cause: Cause,
    limits: Limits,
    outcome: Outcome,
) -> None:
    """Apply a change, or park it until its turn, and note in `outcome` what came of it.

    Args:
        stock: whose it is.
        change: what happened here.
        sequence: its number in the stock's own sequence of events, if it has one.
        cause: the event that says so.
        limits: how much may be remembered.
        outcome: takes the results.

    Raises:
        Reject: a limit is reached; the stock is of no use any more, as a handler's that raises.
    """
    if sequence is None and type(change) is not c.Counted:
        post(stock, change, cause, limits, outcome)
        return
    book = stock.book
    missing = book.sequence + 1
    if sequence is not None and sequence < missing:
        text = f"event {sequence} came after {book.sequence} was applied; dropped"
        _find_number("stale-sequence", sequence, change, text, outcome)
        return
    if sequence is None or (type(change) is c.Counted and (change.through or 0) >= sequence):
        post(stock, change, cause, limits, outcome)
    else:
        _park(stock, sequence, change, cause, limits, outcome)
    _go_on(stock, missing, limits, outcome)


def tell_gap(stock: Stock, missing: int) -> int:
    """Note that a gap is told; return how many wait behind it, 0 if it is filled or told."""
    book = stock.book
    if not book.parked or book.sequence + 1 != missing or book.gap == missing:
        return 0
    book.gap = missing
    return len(book.parked)


def give_up_gap(stock: Stock, missing: int) -> list[tuple[int, Parked]]:
    """Take out what waits behind a gap that nobody filled, in order of its numbers."""
    book = stock.book
    if not book.parked or book.sequence + 1 != missing:
        return []
    parked = sorted(book.parked.items())
    book.parked, book.gap = {}, 0
    return parked


def _park(
    stock: Stock, sequence: int, change: Change, cause: Cause, limits: Limits, outcome: Outcome
) -> None:
    waiting = stock.book.parked
    if sequence in waiting:
        text = f"{waiting[sequence].event_id} has the number {sequence} too; dropped"
        _find_number("sequence-reused", sequence, change, text, outcome)
        return
    if len(waiting) >= limits.parked and sequence != stock.book.sequence + 1:
        raise Reject("too-many-parked")
    waiting[sequence] = Parked(change, cause.event_id, cause.event_type, cause.time_ms)
    if len(waiting) == 1:
        outcome.gap = stock.book.sequence + 1


def _go_on(stock: Stock, missing: int, limits: Limits, outcome: Outcome) -> None:
    """Apply whatever of the parked has its turn; `missing` is what was waited for before."""
    book = stock.book
    # A count up to a later number takes those before it with it, in their order.
    for number in sorted(number for number in book.parked if number <= book.sequence):
        _post_parked(stock, number, limits, outcome)
    while book.sequence + 1 in book.parked:
        book.sequence += 1
        _post_parked(stock, book.sequence, limits, outcome)
    if book.gap and book.sequence >= book.gap:
        outcome.filled, book.gap = book.gap, 0
    if not book.parked:
        outcome.gap = 0
    elif book.sequence + 1 != missing:
        outcome.gap = book.sequence + 1


def _post_parked(stock: Stock, number: int, limits: Limits, outcome: Outcome) -> None:
    parked = stock.book.parked.pop(number)
    cause = Cause(parked.event_id, parked.event_type, parked.time_ms)
    post(stock, parked.change, cause, limits, outcome)


def _find_number(kind: str, sequence: int, change: Change, text: str, outcome: Outcome) -> None:
    outcome.find(kind, str(sequence), getattr(change, "quantity", 0), text)
