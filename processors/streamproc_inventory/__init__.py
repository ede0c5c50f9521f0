"""Inventory: a processor that keeps stock per item and location, a ledger of it, and alerts."""

from streamproc_inventory.book import Limits, Line
from streamproc_inventory.facts import (
    Component,
    InboundExpected,
    ItemBackInStock,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    ReservationCommitted,
    ReservationCreated,
    ReservationReleased,
    ReturnReceived,
    StockAdjusted,
    StockCounted,
    StockPolicySet,
    StockReceived,
    StockTransferred,
)
from streamproc_inventory.levels import Levels
from streamproc_inventory.notices import (
    BackInStock,
    CountMismatch,
    InventoryAnomaly,
    LedgerEntry,
    Oversold,
    ReservationExpired,
    SequenceGap,
    StockLow,
)
from streamproc_inventory.processor import InventoryProcessor
from streamproc_inventory.stock import Stock

__all__ = [
    "BackInStock",
    "Component",
    "CountMismatch",
    "InboundExpected",
    "InventoryAnomaly",
    "InventoryProcessor",
    "ItemBackInStock",
    "LedgerEntry",
    "Levels",
    "Limits",
    "Line",
    "OrderCancelled",
    "OrderLine",
    "OrderPlaced",
    "OrderShipped",
    "Oversold",
    "ReservationCommitted",
    "ReservationCreated",
    "ReservationExpired",
    "ReservationReleased",
    "ReturnReceived",
    "SequenceGap",
    "Stock",
    "StockAdjusted",
    "StockCounted",
    "StockLow",
    "StockPolicySet",
    "StockReceived",
    "StockTransferred",
]
