"""Splits an event about several stocks into the changes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from streamproc import Reject
from streamproc_inventory import changes as c
from streamproc_inventory.changes import Change, line_key
from streamproc_inventory.checks import (
    LARGEST_QUANTITY,
    check_name,
    check_quantity,
    check_sequence,
    check_stock,
)
from streamproc_inventory.facts import Component, OrderLine

__all__ = ["MOST_PARTS", "Changes", "StockKey", "cancelled", "parts_of", "placed", "shipped",
           "split_lines", "split_parts", "stocks_of_lines", "stocks_of_parts"]  # fmt: skip

MOST_PARTS: Final = 500
"""Lines, and parts of kits, in one event: each is a state that a transaction loads and writes."""

_FEW_LINES: Final = 10

StockKey = tuple[str, str]
"""(sku, location): the sku first, so that all stocks of one item lie together."""

Changes = dict[StockKey, list[tuple[Change, int | None]]]
"""What an event does to each stock, with its number in the stock's sequence if it has one."""


def stocks_of_lines(lines: Sequence[OrderLine]) -> list[StockKey]:
    """Return the stocks of an order's lines; none if they are too many, for `split_lines`."""
    if len(lines) <= _FEW_LINES and not any([line.components for line in lines]):  # noqa: C419
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
) -> Changes:
    """Check an order's lines and gather what they do by stock.

    A line given twice at one stock, and a part that a kit has twice, is one sum.

    Raises:
        Reject: a line makes no sense; the event as a whole is refused.
    """
    if not order_id:
        raise Reject("no-order")
    if not lines:
        raise Reject("no-lines")
    if len(lines) > _FEW_LINES:
        return _add_up(order_id, lines, change_of)
    changes: Changes = {}
    for line in lines:
        if line.components:
            return _add_up(order_id, lines, change_of)
        _check_line(line)
        change = change_of(line_key(order_id, line.line_id), line.quantity, line)
        changes[line.sku, line.location_id] = [(change, line.sequence)]
    # Nearly always each of them has a stock of its own.
    return changes if len(changes) == len(lines) else _add_up(order_id, lines, change_of)


def split_parts(
    sku: str,
    location_id: str,
    quantity: int,
    parts: Sequence[Component],
    sequence: int | None,
    change_of: Callable[[int], Change],
) -> Changes:
    """Check what an event says of an item or a kit, and gather what it does by stock.

    Raises:
        Reject: it makes no sense.
    """
    check_stock(sku, location_id)
    check_quantity(quantity)
    if sequence is not None and parts:
        raise Reject("kit-with-sequence")
    check_sequence(sequence)
    return {
        (part, location_id): [(change_of(units), sequence)]
        for part, units in parts_of(sku, quantity, parts)
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


def placed(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what an order's line does."""
    return c.Placed(key, quantity, line.reservation_id)


def cancelled(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what a cancelled line does."""
    return c.Cancelled(key, quantity)


def shipped(key: str, quantity: int, line: OrderLine) -> Change:
    """Return what a shipped line does."""
    return c.Shipped(key, quantity)


def _add_up(
    order_id: str, lines: Sequence[OrderLine], change_of: Callable[[str, int, OrderLine], Change]
) -> Changes:
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


def _check_line(line: OrderLine) -> None:
    check_stock(line.sku, line.location_id)
    if not 0 < line.quantity <= LARGEST_QUANTITY:
        check_quantity(line.quantity)
    if not line.line_id:
        raise Reject("no-line")
    if line.sequence is not None:
        if line.components:
            raise Reject("kit-with-sequence")
        check_sequence(line.sequence)


def _are_too_many(lines: Sequence[OrderLine]) -> bool:
    return sum([len(line.components) or 1 for line in lines]) > MOST_PARTS
