"""What waits for an order or a creation that does not come: told, and in the end given up."""

from __future__ import annotations

from collections.abc import Mapping

from streamproc_inventory import changes as c
from streamproc_inventory.book import Limits
from streamproc_inventory.outcome import Cause, Outcome
from streamproc_inventory.posting import post
from streamproc_inventory.stock import Stock

__all__ = ["review"]


def review(
    stock: Stock,
    now_ms: int,
    wait_ms: float,
    lateness_ms: float,
    event_id: str,
    limits: Limits,
    outcome: Outcome,
) -> bool:
    """Tell what waits for long, forget what waits in vain; return whether anything still waits.

    Args:
        stock: what is looked through.
        now_ms: the time now.
        wait_ms: how long something may wait before it is told.
        lateness_ms: how late an event may be: what it would bring later is rejected.
        event_id: of the event that asks for the review.
        limits: how much may be remembered.
        outcome: takes the results.
    """
    book = stock.book
    for key, line in book.waiting_lines().items():
        if now_ms - line.since_ms > lateness_ms:
            cause = Cause(event_id, "StockReviewDue", line.since_ms)
            post(stock, c.Forgotten(key), cause, limits, outcome)
    for key, end in list(book.early.items()):
        if now_ms - end.since_ms > lateness_ms:
            del book.early[key]
    lines = {key: line.since_ms for key, line in book.waiting_lines().items()}
    early = {key: end.since_ms for key, end in book.early.items()}
    long = now_ms - wait_ms
    _tell("order-missing", "order lines wait for their order", lines, long, outcome)
    text = "reservations ended and were never created"
    _tell("reservation-missing", text, early, long, outcome)
    return bool(lines or early)


def _tell(
    kind: str, text: str, since: Mapping[str, int], before_ms: float, outcome: Outcome
) -> None:
    """Tell how many wait since before a moment, and which for longest."""
    long = {key: at for key, at in since.items() if at <= before_ms}
    if long:
        oldest = min(long, key=lambda key: long[key])
        outcome.find(kind, oldest, len(long), f"{len(long)} {text}")
