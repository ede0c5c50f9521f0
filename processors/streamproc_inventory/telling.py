"""What was done to a stock, in the words that others hear."""

from __future__ import annotations

from streamproc import Event
from streamproc_inventory import changes as c
from streamproc_inventory.changes import WORDINGS
from streamproc_inventory.notices import CountMismatch, InventoryAnomaly, LedgerEntry
from streamproc_inventory.stock import Entry, Finding, Outcome, Stock

__all__ = ["drift_of", "ledger_entry", "notice_of"]


def ledger_entry(sku: str, location_id: str, entry: Entry) -> LedgerEntry:
    """Return a change as it stands in the ledger."""
    change = entry.change
    what, why, units, who = WORDINGS[type(change)]
    return LedgerEntry(
        sku=sku,
        location_id=location_id,
        version=entry.version,
        what=what,
        event_id=entry.event_id,
        event_type=entry.event_type,
        units=units(change),
        before=entry.before,
        after=entry.after,
        why=why(change),
        who=who(change),
        note=entry.note,
    )


def drift_of(outcome: Outcome, count_id: str) -> int:
    """Return what a count that was applied found."""
    found = [f for f in outcome.findings if f.kind == "drift" and f.subject == count_id]
    return found[0].quantity if found else 0


def notice_of(
    sku: str, location_id: str, finding: Finding, stock: Stock, outcome: Outcome
) -> Event:
    """Return what is said of a finding."""
    if finding.kind not in ("drift", "outdated-count"):
        return InventoryAnomaly(
            kind=finding.kind,
            sku=sku,
            location_id=location_id,
            subject=finding.subject,
            quantity=finding.quantity,
            detail=finding.detail,
            on_hand=stock.on_hand,
            version=stock.version,
        )
    (count,) = [
        entry.change
        for entry in outcome.entries
        if entry.event_id == finding.subject and isinstance(entry.change, c.Counted)
    ]
    return CountMismatch(
        sku=sku,
        location_id=location_id,
        count_id=finding.subject,
        counted=count.quantity,
        drift=finding.quantity,
        applied=finding.kind == "drift",
        detail=finding.detail,
        version=stock.version,
    )
