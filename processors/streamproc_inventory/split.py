"""Checks an event and splits it into the changes of the stocks that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from streamproc import Reject
from streamproc_inventory import changes as c
from streamproc_inventory.changes import Change, line_key
from streamproc_inventory.facts import Component, OrderLine

__all__ = [
    "LARGEST_QUANTITY",
    "MOST_PARTS",
    "LineChange",
    "StockKey",
    "check_name",
    "check_quantity",
    "check_stock",
    "milliseconds",
    "parts_of",
    "split_lines",
    "stocks_of_lines",
    "stocks_of_parts",
]

LARGEST_QUANTITY: Final = 1_000_000_000
"""Units in one line, receipt or count; Shopify's inventory API draws the same border."""

MOST_PARTS: Final = 500
"""Lines, and parts of kits, in one event: each is a state that a transaction loads and writes."""

_FEW_LINES: Final = 10

StockKey = tuple[str, str]
"""(sku, location): the sku first, so that all stocks of one item lie together."""

LineChange = tuple[Change, int | None]
"""A change and its number in the stock's sequence, if it has one."""


def stocks_of_lines(lines: Sequence[OrderLine]) -> list[StockKey]:
    """Return the stocks of an order's lines; none if they are too many, for `split_lines`."""
    if _are_plain(lines):
        return [(line.sku, line.location_id) for line in lines]
    if _are_too_many(lines):
        return []
    return [
        (sku, line.location_id)
        for line in lines
        for sku in ([part.sku for part in line.components] or [line.sku])
    ]


def stocks_of_parts(sku: str, location_id: str, parts: Sequence[Component]) -> list[StockKey]:
    """Return the stocks of an item, or of its parts; none if they are too many."""
    if not parts:
        return [(sku, location_id)]
    return [] if len(parts) > MOST_PARTS else [(part.sku, location_id) for part in parts]


def split_lines(
    order_id: str, lines: Sequence[OrderLine], change_of: Callable[[str, int, OrderLine], Change]
) -> dict[StockKey, list[LineChange]]:
    """Check an order's lines and gather what they do by stock.

    A line given twice at one stock, and a part that a kit has twice, is one sum.

    Raises:
        Reject: a line makes no sense; the event as a whole is refused.
    """
    if not order_id:
        raise Reject("no-order")
    if not lines:
        raise Reject("no-lines")
    if _are_plain(lines):
        changes = {}
        for line in lines:
            _check_line(line)
            change = change_of(line_key(order_id, line.line_id), line.quantity, line)
            changes[line.sku, line.location_id] = [(change, line.sequence)]
        if len(changes) == len(lines):
            return changes  # nearly always; else some of them are to be added up
    if _are_too_many(lines):
        raise Reject("too-many-parts")
    units: dict[StockKey, dict[str, tuple[int, OrderLine]]] = {}
    for line in lines:
        _check_line(line)
        for sku, quantity in parts_of(line.sku, line.quantity, line.components):
            at_stock = units.setdefault((sku, line.location_id), {})
            before = at_stock.get(line.line_id, (0, line))
            if before[1] is not line and line.sequence != before[1].sequence:
                raise Reject("line-with-two-sequences")
            at_stock[line.line_id] = (before[0] + quantity, line)
    return {
        stock: [
            (change_of(line_key(order_id, line_id), quantity, line), line.sequence)
            for line_id, (quantity, line) in at_stock.items()
        ]
        for stock, at_stock in units.items()
    }


def parts_of(sku: str, quantity: int, parts: Sequence[Component]) -> Iterable[tuple[str, int]]:
    """Return (sku, units) of an item, or of a kit's parts.

    Raises:
        Reject: the parts make no kit.
    """
    if not parts:
        return [(sku, quantity)]
    if len(parts) > MOST_PARTS:
        raise Reject("too-many-parts")
    units: dict[str, int] = {}
    for part in parts:
        if part.components or part.sku == sku:
            raise Reject("nested-kit")
        if not part.sku:
            raise Reject("no-sku")
        check_name(part.sku)
        check_quantity(part.quantity)
        check_quantity(part.quantity * quantity)
        units[part.sku] = units.get(part.sku, 0) + part.quantity * quantity
    return units.items()


def check_stock(sku: str, location_id: str) -> None:
    """Refuse a stock without a name, or with one that nobody could read.

    Raises:
        Reject: it has none, or it has characters that cannot be printed.
    """
    if sku and location_id and sku.isprintable() and location_id.isprintable():
        return
    if not sku:
        raise Reject("no-sku")
    if not location_id:
        raise Reject("no-location")
    raise Reject("unprintable-name")


def check_name(name: str) -> None:
    """Refuse a name that cannot be printed: it stands in keys, timers and logs.

    Raises:
        Reject: it has a control character or the like.
    """
    if not name.isprintable():
        raise Reject("unprintable-name")


def check_quantity(quantity: int) -> None:
    """Refuse a quantity that cannot be one.

    Raises:
        Reject: it is not positive, or too large.
    """
    if quantity <= 0:
        raise Reject("quantity-not-positive")
    if quantity > LARGEST_QUANTITY:
        raise Reject("quantity-too-large")


def milliseconds(moment: datetime) -> int:
    """Return a moment in ms since the epoch.

    Raises:
        Reject: it has no offset.
    """
    if moment.tzinfo is None:
        raise Reject("time-without-offset")
    return round(moment.timestamp() * 1000)


def _check_line(line: OrderLine) -> None:
    check_stock(line.sku, line.location_id)
    if not 0 < line.quantity <= LARGEST_QUANTITY:
        check_quantity(line.quantity)
    if not line.line_id:
        raise Reject("no-line")
    if line.sequence is not None:
        if line.components:
            raise Reject("kit-with-sequence")
        if line.sequence < 1:
            raise Reject("sequence-not-positive")


def _are_plain(lines: Sequence[OrderLine]) -> bool:
    """Whether there are few lines, and none of a kit."""
    return len(lines) <= _FEW_LINES and not any([line.components for line in lines])  # noqa: C419


def _are_too_many(lines: Sequence[OrderLine]) -> bool:
    return sum([len(line.components) or 1 for line in lines]) > MOST_PARTS


def placed(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what an order's line does."""
    return c.Placed(key, quantity, line.reservation_id)


def cancelled(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what a cancelled line does."""
    return c.Cancelled(key, quantity)


def shipped(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what a shipped line does."""
    return c.Shipped(key, quantity)
