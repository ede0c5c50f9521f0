"""What happens in a run: a simulated shop's day, and a stretch of the fraud reference world."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from streamproc.errors import ConfigError
from streamproc_inventory.facts import StockPolicySet, StockReceived
from streamproc_inventory.simulation.shelf import Place, Shelf
from streamproc_inventory.simulation.shop import Happening, Shop, ShopSettings

__all__ = ["LOCATIONS", "Payments", "ShopDay", "reference_payments", "shop_day"]

LOCATIONS: Final = ("WH-EU-1", "WH-US-1")

_OPENS: Final = datetime(2100, 1, 1, 6, 0, tzinfo=UTC)
"""A day is over in seconds here, and reservations expire by the wall clock: ahead of it, none does
before its end is told, and equal seeds still give equal bytes."""

_WORLD_DAYS: Final = 7
_TERMINALS: Final = 2_000
_PAYMENTS_OF_A_CUSTOMER: Final = 10  # in those days, at the least: 13 on average


class ShopDay(msgspec.Struct, frozen=True):
    """A shop's day, and the books at its end.

    Attributes:
        opening: what fills the shelves, before anything is sold.
        trade: everything after, in the order of its time.
        books: each stock, as the shop itself has kept count of it.
    """

    opening: list[Happening]
    trade: list[Happening]
    books: Mapping[Place, Shelf]


class Payments(msgspec.Struct, frozen=True):
    """Payments in the order of their time, and the ids of those that are frauds."""

    happenings: list[Happening]
    frauds: frozenset[str]


def shop_day(seed: int, orders: int) -> ShopDay:
    """Simulate a day with about so many orders; about two more events come of each."""
    settings = ShopSettings(
        skus=min(120, max(20, orders // 50)),
        start=_OPENS,
        orders=orders,
        warehouses=LOCATIONS,
        # What has a number waits for those before it, under timers; each firing leaves a mark as
        # an event does, and the marks are counted here: they must be those of the events alone.
        numbered=None,
    )
    shop = Shop(seed, settings)
    opening: list[Happening] = []
    trade: list[Happening] = []
    for happening in shop.happenings():
        fills = isinstance(happening.event, StockReceived | StockPolicySet)
        (opening if fills and not trade else trade).append(happening)
    return ShopDay(opening, trade, shop.shelves)


def reference_payments(count: int) -> Payments:
    """Return the last `count` payments of a week in a world large enough for them.

    Raises:
        ConfigError: NumPy is not installed.
    """
    try:
        from streamproc_fraud.world.events import payment_of
        from streamproc_fraud.world.simulator import SIMULATION_START, World, simulate
    except ImportError as error:
        raise ConfigError(
            f"the payments are simulated with NumPy: pip install 'streamproc[local]' ({error})"
        ) from None
    customers = 10 + count // _PAYMENTS_OF_A_CUSTOMER
    made = simulate(World(customers=customers, terminals=_TERMINALS, days=_WORLD_DAYS))
    happenings = []
    first = len(made.t) - count
    for row in range(first, len(made.t)):
        payment = payment_of(made, row, row)
        time = SIMULATION_START + timedelta(seconds=int(made.t[row]))
        happenings.append(Happening(time, payment, payment.card_id, False))
    frauds = (first + made.fraud[first:].nonzero()[0]).tolist()
    return Payments(happenings, frozenset(f"tx-{row}" for row in frauds))
