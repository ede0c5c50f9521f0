"""How a stock is to be run: the latest policy by event time holds."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import changes as c
from streamproc_inventory.book import Limits
from streamproc_inventory.outcome import Cause, Effect, Outcome
from streamproc_inventory.stock import Stock

__all__ = ["EFFECTS"]


def _set_policy(
    stock: Stock, change: c.PolicySet, cause: Cause, limits: Limits, outcome: Outcome
) -> str | None:
    book, at, event_id = stock.book, cause.time_ms, cause.event_id
    if book.policy_ms is not None and (at, event_id) < (book.policy_ms, book.policy_by):
        return f"policy {book.policy_by} is newer; nothing changed"
    stock.safety_stock = change.safety_stock
    book.policy_ms, book.policy_by = at, event_id
    book.low_stock, book.low_stock_rearm = change.low_stock, change.low_stock_rearm
    return None


EFFECTS: Final[dict[type, Effect]] = {c.PolicySet: _set_policy}
"""By kind of change."""
