"""What an event does to one stock. An event about several stocks is one change for each."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

__all__ = [
    "WORDINGS",
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
    "Wording",
    "line_key",
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


class Wording(NamedTuple):
    """What a kind of change is called, and how to read off one what the ledger tells.

    Attributes:
        what: its name, such as ``shipped``.
        why: gives the line, transfer, reservation or reason that it is about; else nothing.
        units: gives the quantity; 0 where there is none.
        who: gives who did it; None where events do not say.
    """

    what: str
    why: Callable[[Any], str]
    units: Callable[[Any], int]
    who: Callable[[Any], str | None] | None


def _wording(kind: type[_Change]) -> Wording:
    fields = kind.__struct_fields__
    subject = next((f for f in ("line", "transfer", "reservation", "reason") if f in fields), None)
    return Wording(
        str(kind.__struct_config__.tag),
        (lambda change: "") if subject is None else attrgetter(subject),
        attrgetter("quantity") if "quantity" in fields else lambda change: 0,
        attrgetter("who") if "who" in fields else None,
    )


WORDINGS: Final = {kind: _wording(kind) for kind in get_args(Change)}
"""By kind of change."""


def line_key(order_id: str, line_id: str) -> str:
    """Return ``order/line``, where no order's slash can be mistaken for the one between them."""
    if "/" in order_id or "%" in order_id:
        order_id = order_id.replace("%", "%25").replace("/", "%2F")
    return f"{order_id}/{line_id}"
