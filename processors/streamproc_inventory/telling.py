"""What was done to a stock, in the words that others hear: the ledger, findings, alerts."""

from __future__ import annotations

from streamproc import Context, Event
from streamproc_inventory.alerts import crossings
from streamproc_inventory.drift import DriftCollector
from streamproc_inventory.notices import CountMismatch, InventoryAnomaly
from streamproc_inventory.outcome import Finding, Outcome
from streamproc_inventory.stock import Stock

__all__ = ["Teller"]


class Teller:
    """Emits what came of events.

    Args:
        low: where `StockLow` is sent, unless a stock's policy says otherwise.
        rearm: what available must rise above before it is sent again; likewise.
        has_ledger: whether entries of the ledger are emitted.
        drift: is told what counts found.
    """

    def __init__(self, low: int, rearm: int, has_ledger: bool, drift: DriftCollector) -> None:
        self._low, self._rearm = low, rearm
        self._has_ledger = has_ledger
        self._drift = drift

    def tell(self, stock: Stock, before: int, outcome: Outcome, ctx: Context[Stock]) -> None:
        """Emit the ledger's entries, findings and alerts of what an event did to a stock.

        Args:
            stock: as it is now.
            before: what was available before.
            outcome: what came of the event.
            ctx: the event's.
        """
        sku, location_id, emit = outcome.sku, outcome.location_id, ctx.emit
        key = f"{sku}|{location_id}"
        for entry in outcome.entries:
            if self._has_ledger:
                emit(entry, key=key)
            if entry.what == "counted" and not entry.note:
                self._drift.note(sku, location_id, _drift_of(outcome, entry.event_id))
        for finding in outcome.findings:
            emit(_notice_of(finding, stock, outcome), key=key)
        if stock.available != before:
            for alert in crossings(stock, sku, location_id, before, self._low, self._rearm):
                emit(alert, key=key)


def _drift_of(outcome: Outcome, count_id: str) -> int:
    """Return what a count that was applied found."""
    found = [f for f in outcome.findings if f.kind == "drift" and f.subject == count_id]
    return found[0].quantity if found else 0


def _notice_of(finding: Finding, stock: Stock, outcome: Outcome) -> Event:
    """Return what is said of a finding."""
    if finding.kind not in ("drift", "outdated-count"):
        return InventoryAnomaly(
            kind=finding.kind,
            sku=outcome.sku,
            location_id=outcome.location_id,
            subject=finding.subject,
            quantity=finding.quantity,
            detail=finding.detail,
            on_hand=stock.on_hand,
            version=stock.version,
        )
    (count,) = [
        entry
        for entry in outcome.entries
        if entry.event_id == finding.subject and entry.what == "counted"
    ]
    return CountMismatch(
        sku=outcome.sku,
        location_id=outcome.location_id,
        count_id=finding.subject,
        counted=count.units,
        drift=finding.quantity,
        applied=finding.kind == "drift",
        detail=finding.detail,
        version=stock.version,
    )
