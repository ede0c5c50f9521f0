"""What an event does to one stock. An event about several stocks is one change for each."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

__all__ = [
    "Adjusted",
    "Arrived",
    "Cancelled",
    "Change",
    "Committed",
    "Counted",
    "Dispatched",
    "Expected",
    "Expired",
    "Forgotten",
    "Lost",
    "Placed",
    "PolicySet",
    "Received",
    "Released",
    "Reserved",
    "Returned",
    "Shipped",
    "Transit",
    "line_key",
    "subject",
    "what",
]

Bucket = Literal["available", "damaged", "quality_control"]


class _Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Written as an array whose first element names it, since parked ones lie in the state."""


class Placed(_Change, frozen=True, tag="placed"):
    """An order line was accepted."""

    line: str
    quantity: int
    reservation: str | None = None


class Cancelled(_Change, frozen=True, tag="cancelled"):
    """Units of an order line are not wanted any more."""

    line: str
    quantity: int


class Shipped(_Change, frozen=True, tag="shipped"):
    """Units of an order line left."""

    line: str
    quantity: int


class Returned(_Change, frozen=True, tag="returned"):
    """Units of an order line came back."""

    line: str
    quantity: int
    bucket: Bucket


class Received(_Change, frozen=True, tag="received"):
    """Goods arrived."""

    quantity: int
    from_incoming: int = 0
    who: str | None = None


class Expected(_Change, frozen=True, tag="expected"):
    """Goods are on their way."""

    quantity: int
    who: str | None = None


class Dispatched(_Change, frozen=True, tag="dispatched"):
    """Goods left for another location."""

    transfer: str
    quantity: int
    who: str | None = None


class Transit(_Change, frozen=True, tag="in-transit"):
    """Goods left another location for this one."""

    transfer: str
    quantity: int
    who: str | None = None


class Arrived(_Change, frozen=True, tag="arrived"):
    """Goods from another location arrived."""

    transfer: str
    quantity: int
    who: str | None = None


class Lost(_Change, frozen=True, tag="lost"):
    """Goods from another location will not arrive."""

    transfer: str
    quantity: int
    who: str | None = None


class Adjusted(_Change, frozen=True, tag="adjusted"):
    """Units were found (above 0) or are missing (below 0)."""

    quantity: int
    bucket: Bucket
    reason: str
    who: str | None = None


class Counted(_Change, frozen=True, tag="counted"):
    """Somebody counted what was on hand at `as_of_ms`."""

    quantity: int
    as_of_ms: int
    through: int | None = None
    who: str | None = None


class PolicySet(_Change, frozen=True, tag="policy"):
    """How the stock is to be run."""

    safety_stock: int
    low_stock: int | None = None
    low_stock_rearm: int | None = None
    who: str | None = None


class Reserved(_Change, frozen=True, tag="reserved"):
    """Units are held."""

    reservation: str
    quantity: int
    expires_ms: int


class Released(_Change, frozen=True, tag="released"):
    """Units are not held any more."""

    reservation: str


class Committed(_Change, frozen=True, tag="committed"):
    """Held units became those of an order line."""

    reservation: str
    line: str
    quantity: int


class Expired(_Change, frozen=True, tag="expired"):
    """The time of a reservation is up."""

    reservation: str


class Forgotten(_Change, frozen=True, tag="forgotten"):
    """An order line's order will not come: it would be too late by now."""

    line: str


Change = (
    Placed
    | Cancelled
    | Shipped
    | Returned
    | Received
    | Expected
    | Dispatched
    | Transit
    | Arrived
    | Lost
    | Adjusted
    | Counted
    | PolicySet
    | Reserved
    | Released
    | Committed
    | Expired
    | Forgotten
)


_SUBJECTS: dict[type, str | None] = {
    kind: next(
        (
            name
            for name in ("line", "transfer", "reservation", "reason")
            if name in kind.__struct_fields__
        ),
        None,
    )
    for kind in get_args(Change)
}
_TAGS: dict[type, str] = {kind: kind.__struct_config__.tag for kind in get_args(Change)}


def what(change: Change) -> str:
    """Return the name of a change, such as ``shipped``."""
    return _TAGS[type(change)]


def subject(change: Change) -> str:
    """Return the line, transfer, reservation or reason that a change is about; else nothing."""
    name = _SUBJECTS[type(change)]
    return "" if name is None else getattr(change, name)


def line_key(order_id: str, line_id: str) -> str:
    """Return ``order/line``, where no order's slash can be mistaken for the one between them."""
    if "/" in order_id or "%" in order_id:
        order_id = order_id.replace("%", "%25").replace("/", "%2F")
    return f"{order_id}/{line_id}"
