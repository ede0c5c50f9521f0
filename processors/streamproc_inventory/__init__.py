"""Inventory: a processor that keeps stock per item and location, and tells when it is oversold."""

from streamproc_inventory.events import (
    InventoryAnomaly,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    Oversold,
    StockReceived,
)
from streamproc_inventory.processor import InventoryProcessor
from streamproc_inventory.stock import Line, Stock

__all__ = [
    "InventoryAnomaly",
    "InventoryProcessor",
    "Line",
    "OrderCancelled",
    "OrderLine",
    "OrderPlaced",
    "OrderShipped",
    "Oversold",
    "Stock",
    "StockReceived",
]
