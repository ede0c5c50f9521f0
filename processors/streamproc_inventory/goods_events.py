"""What events about goods and about how a stock is run say of it, checked."""

from __future__ import annotations

from streamproc import Reject
from streamproc_inventory import changes as c
from streamproc_inventory.checks import (
    LARGEST_QUANTITY,
    check_quantity,
    check_stock,
    milliseconds,
)
from streamproc_inventory.facts import (
    InboundExpected,
    ItemBackInStock,
    StockAdjusted,
    StockCounted,
    StockPolicySet,
    StockReceived,
    StockTransferred,
)
from streamproc_inventory.split import Changes

__all__ = ["adjusted", "counted", "expected", "policy_set", "received", "transferred"]

# All of these refuse an event that makes no sense, by raising `Reject`.


def received(event: StockReceived | ItemBackInStock) -> c.Received:
    """Return what goods that arrived do."""
    check_quantity(event.quantity)
    if not 0 <= event.from_incoming <= event.quantity:
        raise Reject("from-incoming-not-possible")
    return c.Received(event.quantity, event.from_incoming, event.actor)


def expected(event: InboundExpected) -> c.Expected:
    """Return what goods that are on their way do."""
    check_quantity(event.quantity)
    return c.Expected(event.quantity, event.actor)


def transferred(event: StockTransferred) -> Changes:
    """Return what a step of a transfer does at its source and its target."""
    sku, source, target = event.sku, event.from_location_id, event.to_location_id
    check_quantity(event.quantity)
    check_stock(sku, source)
    check_stock(sku, target)
    if not event.transfer_id:
        raise Reject("no-transfer")
    if source == target:
        raise Reject("transfer-to-itself")
    said = (event.transfer_id, event.quantity, event.actor)
    if event.phase == "out":
        return {
            (sku, source): [(c.Dispatched(*said), None)],
            (sku, target): [(c.Transit(*said), None)],
        }
    change = c.Arrived(*said) if event.phase == "in" else c.Lost(*said)
    return {(sku, target): [(change, None)]}


def adjusted(event: StockAdjusted) -> c.Adjusted:
    """Return what a correction by hand does."""
    if not event.reason:
        raise Reject("no-reason")
    check_quantity(abs(event.quantity))
    return c.Adjusted(event.quantity, event.condition, event.reason, event.actor)


def counted(event: StockCounted, latest_ms: float) -> c.Counted:
    """Return what a count does; its moment may be `latest_ms` at most."""
    if event.quantity < 0:
        raise Reject("quantity-negative")
    if event.quantity:
        check_quantity(event.quantity)
    if event.through_sequence is not None and event.through_sequence < 1:
        raise Reject("sequence-not-positive")
    as_of = milliseconds(event.as_of)
    if as_of > latest_ms:
        raise Reject("from-the-future")
    return c.Counted(event.quantity, as_of, event.through_sequence, event.actor)


def policy_set(event: StockPolicySet) -> c.PolicySet:
    """Return what a policy does."""
    if not 0 <= event.safety_stock <= LARGEST_QUANTITY:
        raise Reject("quantity-not-possible")
    low, rearm = event.low_stock, event.low_stock_rearm
    if rearm is not None and (low is None or rearm < low):
        raise Reject("rearm-below-threshold")
    return c.PolicySet(event.safety_stock, low, rearm, event.actor)
