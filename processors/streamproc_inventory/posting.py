"""Applies a change to a stock, and enters it in the ledger."""

from __future__ import annotations

from typing import Final

from streamproc_inventory import goods, order_lines, policies, reservations
from streamproc_inventory.book import Limits
from streamproc_inventory.changes import WORDINGS, Change
from streamproc_inventory.levels import Levels
from streamproc_inventory.notices import LedgerEntry
from streamproc_inventory.outcome import Cause, Outcome
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
    # As `stock.levels`, here and below: it is done with every change.
    before = Levels(
        stock.on_hand,
        stock.committed,
        stock.reserved,
        stock.incoming,
        stock.damaged,
        stock.quality_control,
        stock.safety_stock,
        stock.available,
    )
    note = effect(stock, change, cause, limits, outcome) or ""
    on_hand, committed, reserved = stock.on_hand, stock.committed, stock.reserved
    damaged, quality_control, safety = stock.damaged, stock.quality_control, stock.safety_stock
    available = on_hand - committed - reserved - damaged - quality_control - safety
    after = Levels(
        on_hand,
        committed,
        reserved,
        stock.incoming,
        damaged,
        quality_control,
        safety,
        available,
    )
    stock.available = available
    stock.oversold = -available if available < 0 else 0
    stock.version = version = stock.version + 1
    stock.last_event = event_id = cause.event_id
    if cause.time_ms > stock.updated_ms:
        stock.updated_ms = cause.time_ms
    if on_hand < 0 <= before.on_hand:
        text = f"{-on_hand} more left than ever came"
        outcome.find("negative-on-hand", event_id, -on_hand, text)
    entry = LedgerEntry(
        outcome.sku,
        outcome.location_id,
        version,
        what,
        event_id,
        cause.event_type,
        units(change),
        before,
        after,
        why(change),
        None if who is None else who(change),
        note,
    )
    outcome.entries += (entry,)
