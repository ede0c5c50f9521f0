"""Applies a change to a stock, and enters it in the ledger."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import goods, order_lines, policies, reservations
from streamproc_inventory.book import Limits
from streamproc_inventory.changes import WORDINGS, Change
from streamproc_inventory.notices import LedgerEntry
from streamproc_inventory.outcome import Cause, Finding, Outcome
from streamproc_inventory.stock import Stock

__all__ = ["post"]

_EFFECTS: Final = {
    **goods.EFFECTS,
    **order_lines.EFFECTS,
    **policies.EFFECTS,
    **reservations.EFFECTS,
}
_KINDS: Final = {kind: (_EFFECTS[kind], *wording) for kind, wording in WORDINGS.items()}


def post(stock: Stock, change: Change, cause: Cause, limits: Limits, outcome: Outcome) -> None:
    """Apply a change now, whatever it is numbered; `outcome` takes what came of it.

    Raises:
        Reject: a limit is reached; the stock is of no use any more, as a handler's that raises.
    """
    effect, what, why, units, who = _KINDS[type(change)]
    before = stock.levels
    note = effect(stock, change, cause, limits, outcome) or ""
    on_hand = stock.on_hand
    stock.available = available = (
        on_hand
        - stock.committed
        - stock.reserved
        - stock.damaged
        - stock.quality_control
        - stock.safety_stock
    )
    stock.oversold = -available if available < 0 else 0
    stock.version = version = stock.version + 1
    stock.last_event = event_id = cause.event_id
    if cause.time_ms > stock.updated_ms:
        stock.updated_ms = cause.time_ms
    if on_hand < 0 <= before.on_hand:
        text = f"{-on_hand} more left than ever came"
        outcome.findings.append(Finding("negative-on-hand", event_id, -on_hand, text))
    outcome.entries.append(
        LedgerEntry(
            outcome.sku,
            outcome.location_id,
            version,
            what,
            event_id,
            cause.event_type,
            units(change),
            before,
            stock.levels,
            why(change),
            who(change),
            note,
        )
    )
