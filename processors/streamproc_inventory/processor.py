"""The inventory processor: facts about orders and goods in, stock in Redis, alerts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from streamproc import ConfigError, Context, Processor, Reject, on
from streamproc_inventory.events import (
    InventoryAnomaly,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    Oversold,
    StockReceived,
)
from streamproc_inventory.stock import Line, Stock, line_key

__all__ = ["LARGEST_QUANTITY", "InventoryProcessor"]

LARGEST_QUANTITY: Final = 1_000_000_000
"""Units in one line or receipt; Shopify's inventory API draws the same border."""

StockKey = tuple[str, str]
Change = tuple[str, str, Line]
"""Of one order line at one stock: line key, line id, what is added."""


class InventoryProcessor(Processor[Stock]):
    """Keep on_hand, committed and available stock for each (sku, location).

    A stream tells facts and cannot refuse them: an order for more than there is makes `available`
    negative and sends `Oversold`. Stock does not depend on the order in which events arrive;
    a cancellation or shipment may come before its order. An event is applied to all its stocks or
    to none; one that makes no sense is rejected as a whole with one of the reasons ``no-order``,
    ``no-lines``, ``no-sku``, ``no-location``, ``no-line``, ``quantity-not-positive``,
    ``quantity-too-large`` and ``too-many-open-lines``.

    Args:
        settled_lines_kept: settled order lines remembered per stock, to notice one closed twice.
        max_open_lines: most lines of one stock that are open or wait for their order.

    Raises:
        ConfigError: an argument is negative, or no line could be open.
    """

    name = "inventory"

    def __init__(self, settled_lines_kept: int = 1_000, max_open_lines: int = 100_000) -> None:
        if settled_lines_kept < 0:
            raise ConfigError("processors.inventory.settled_lines_kept: must be at least 0")
        if max_open_lines < 1:
            raise ConfigError("processors.inventory.max_open_lines: must be at least 1")
        self._keep = settled_lines_kept
        self._max_open = max_open_lines

    @on(OrderPlaced, keys=lambda order: _stocks(order.lines))
    def place(self, order: OrderPlaced, ctx: Context[Stock]) -> None:
        """Promise the order's quantities."""
        self._apply(order.order_id, order.lines, lambda quantity: Line(placed=quantity), ctx)

    @on(OrderCancelled, keys=lambda order: _stocks(order.lines))
    def cancel(self, order: OrderCancelled, ctx: Context[Stock]) -> None:
        """Take the promise back."""
        self._apply(order.order_id, order.lines, lambda quantity: Line(cancelled=quantity), ctx)

    @on(OrderShipped, keys=lambda order: _stocks(order.lines))
    def ship(self, order: OrderShipped, ctx: Context[Stock]) -> None:
        """Fulfil the promise: the goods are gone."""
        self._apply(order.order_id, order.lines, lambda quantity: Line(shipped=quantity), ctx)

    @on(StockReceived, key=lambda receipt: (receipt.sku, receipt.location_id))
    def receive(self, receipt: StockReceived, ctx: Context[Stock]) -> None:
        """Add the goods that arrived."""
        _refuse_unusable(receipt.sku, receipt.location_id, receipt.quantity)
        ctx.state.receive(receipt.quantity)

    def _apply(
        self,
        order_id: str,
        lines: Sequence[OrderLine],
        change_of: Callable[[int], Line],
        ctx: Context[Stock],
    ) -> None:
        for stock_key, changes in _by_stock(order_id, lines, change_of).items():
            self._apply_to_stock(stock_key, changes, order_id, ctx)

    def _apply_to_stock(
        self, stock_key: StockKey, changes: list[Change], order_id: str, ctx: Context[Stock]
    ) -> None:
        stock = ctx.states[stock_key]
        new = sum(not stock.knows(key) for key, _, _ in changes)
        if new and len(stock.lines) + new > self._max_open:
            raise Reject("too-many-open-lines")
        oversold_before = stock.oversold
        for key, line_id, change in changes:
            on_hand_before = stock.on_hand
            line = stock.apply(key, change, self._keep)
            if line.excess:
                _report("over-closed", stock_key, order_id, line_id, line, stock, ctx)
            if on_hand_before >= 0 > stock.on_hand:
                _report("negative-on-hand", stock_key, order_id, line_id, line, stock, ctx)
        if stock.oversold and not oversold_before:
            sku, location_id = stock_key
            oversold = Oversold(
                sku=sku,
                location_id=location_id,
                on_hand=stock.on_hand,
                committed=stock.committed,
                available=stock.available,
            )
            ctx.emit(oversold, key="|".join(stock_key))


def _report(
    kind: Literal["over-closed", "negative-on-hand"],
    stock_key: StockKey,
    order_id: str,
    line_id: str,
    line: Line,
    stock: Stock,
    ctx: Context[Stock],
) -> None:
    sku, location_id = stock_key
    anomaly = InventoryAnomaly(
        kind=kind,
        sku=sku,
        location_id=location_id,
        order_id=order_id,
        line_id=line_id,
        placed=line.placed,
        cancelled=line.cancelled,
        shipped=line.shipped,
        on_hand=stock.on_hand,
    )
    ctx.emit(anomaly, key="|".join(stock_key))


def _stocks(lines: Iterable[OrderLine]) -> list[StockKey]:
    return [(line.sku, line.location_id) for line in lines]


def _by_stock(
    order_id: str, lines: Sequence[OrderLine], change_of: Callable[[int], Line]
) -> dict[StockKey, list[Change]]:
    """Check the lines and gather them by stock; a line given twice at one stock is one sum.

    Raises:
        Reject: a line makes no sense; the event as a whole is refused.
    """
    if not order_id:
        raise Reject("no-order")
    if not lines:
        raise Reject("no-lines")
    quantities: dict[StockKey, dict[str, int]] = {}
    for line in lines:
        _refuse_unusable(line.sku, line.location_id, line.quantity)
        if not line.line_id:
            raise Reject("no-line")
        at_stock = quantities.setdefault((line.sku, line.location_id), {})
        at_stock[line.line_id] = at_stock.get(line.line_id, 0) + line.quantity
    return {
        stock: [(line_key(order_id, line_id), line_id, change_of(quantity))
                for line_id, quantity in at_stock.items()]
        for stock, at_stock in quantities.items()
    }  # fmt: skip


def _refuse_unusable(sku: str, location_id: str, quantity: int) -> None:
    if not sku:
        raise Reject("no-sku")
    if not location_id:
        raise Reject("no-location")
    if quantity <= 0:
        raise Reject("quantity-not-positive")
    if quantity > LARGEST_QUANTITY:
        raise Reject("quantity-too-large")
