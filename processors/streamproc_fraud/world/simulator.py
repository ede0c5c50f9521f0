"""The reference world of the Fraud Detection Handbook, made anew from its description.

Equal sizes give equal rows on every machine: customers, terminals and payments come from NumPy's
legacy generator, whose streams are frozen (NEP 19), and from Python's.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["DAY", "SIMULATION_START", "Transactions", "World", "simulate"]

DAY: Final = 86_400
SIMULATION_START: Final = datetime(2018, 4, 1, tzinfo=UTC)
"""The instant that `Transactions.t` counts from."""

_LARGE_CENTS: Final = 22_000
_MEAN_TIME_S: Final = 43_200
_TIME_DEVIATION_S: Final = 20_000
_TERMINALS_A_DAY, _TERMINAL_DAYS = 2, 28
_CUSTOMERS_A_DAY, _CUSTOMER_DAYS = 3, 14

Array = npt.NDArray[Any]


class World(msgspec.Struct, frozen=True, kw_only=True):
    """How large the world is; the defaults are the published one.

    Attributes:
        radius: how far customers go to a terminal, where places lie in a square of side 100.
    """

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    radius: float = 5.0


class Transactions(NamedTuple):
    """Payments in the order of their time, one array a column, all of one length.

    Attributes:
        t: seconds since `SIMULATION_START`.
        customer: from 0; each has one card.
        terminal: from 0.
        amount_cents: in cents of one currency.
        fraud: whether the payment is one.
        scenario: 0 genuine, 1 large amount, 2 compromised terminal, 3 stolen card.
    """

    t: Array
    customer: Array
    terminal: Array
    amount_cents: Array
    fraud: Array
    scenario: Array

    def between(self, first_day: int, end_day: int) -> Transactions:
        """Return the payments of days first_day <= day < end_day."""
        first, end = np.searchsorted(self.t, [first_day * DAY, end_day * DAY])
        return Transactions(*[column[first:end] for column in self])


class _Customer(NamedTuple):
    number: int
    mean_amount: float
    payments_a_day: float
    terminals: list[int]


def simulate(world: World) -> Transactions:
    """Return all payments of a world; the full one has 1,754,155 and takes some 12 s.

    The row number is the transaction's id.
    """
    rows: list[tuple[int, int, int, float]] = []
    for customer in _customers(world):
        rows += _payments(customer, world.days)
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    t, customers, terminals, amounts = [np.asarray(column) for column in columns]
    cents = np.rint(np.round(amounts.astype(float), 2) * 100).astype(np.int64)
    # Which payment of a second comes first is an accident of NumPy's scalar quicksort. On integers
    # NumPy sorts with the processor's vector instructions, where it has them, and ties fall
    # otherwise; on times it uses the scalar one everywhere.
    order = np.argsort(t.astype("timedelta64[s]"), kind="quicksort")
    made = Transactions(
        t=t[order].astype(np.int64),
        customer=customers[order].astype(np.int64),
        terminal=terminals[order].astype(np.int64),
        amount_cents=cents[order],
        fraud=np.zeros(len(rows), dtype=bool),
        scenario=np.zeros(len(rows), dtype=np.int8),
    )
    _commit_frauds(made, world)
    return made


def _customers(world: World) -> list[_Customer]:
    draw = np.random.RandomState(0).uniform
    profiles = [
        (draw(0, 100), draw(0, 100), draw(5, 100), draw(0, 4)) for _ in range(world.customers)
    ]
    draw = np.random.RandomState(1).uniform
    places = np.array([(draw(0, 100), draw(0, 100)) for _ in range(world.terminals)]).reshape(-1, 2)
    made = []
    for number, (x, y, mean_amount, payments_a_day) in enumerate(profiles):
        distances = np.sqrt(((places - (x, y)) ** 2).sum(axis=1))
        near = np.nonzero(distances < world.radius)[0].tolist()
        made.append(_Customer(number, mean_amount, payments_a_day, near))
    return made


def _payments(customer: _Customer, days: int) -> list[tuple[int, int, int, float]]:
    """Return (t, customer, terminal, amount) of a customer's payments, day by day."""
    number, mean, payments_a_day, terminals = customer
    chance, choose = np.random.RandomState(number), random.Random(number).choice
    poisson, normal, deviation = chance.poisson, chance.normal, mean / 2
    rows = []
    for day in range(days):
        for _ in range(poisson(payments_a_day)):
            second = int(normal(_MEAN_TIME_S, _TIME_DEVIATION_S))
            if not 0 < second < DAY:
                continue
            amount = normal(mean, deviation)
            if amount < 0:
                amount = chance.uniform(0, 2 * mean)
            if terminals:
                rows.append((day * DAY + second, number, choose(terminals), amount))
    return rows


def _commit_frauds(made: Transactions, world: World) -> None:
    """Mark frauds in place: large amounts, then compromised terminals, then stolen cards."""
    large = made.amount_cents > _LARGE_CENTS
    made.fraud[large], made.scenario[large] = True, 1
    # The last day starts no campaign, in the handbook as here.
    for day in range(world.days - 1):
        hit = _campaign(made, made.terminal, world.terminals, _TERMINALS_A_DAY, day, _TERMINAL_DAYS)
        made.fraud[hit], made.scenario[hit] = True, 2
    for day in range(world.days - 1):
        seen = _campaign(
            made, made.customer, world.customers, _CUSTOMERS_A_DAY, day, _CUSTOMER_DAYS
        )
        hit = np.array(random.Random(day).sample(seen.tolist(), len(seen) // 3), dtype=np.intp)
        made.amount_cents[hit] *= 5
        made.fraud[hit], made.scenario[hit] = True, 3


def _campaign(
    made: Transactions, column: Array, population: int, victims: int, day: int, days: int
) -> Array:
    """Return the rows of the victims that a day draws, from that day on for `days`."""
    drawn = np.random.RandomState(day).choice(population, size=victims, replace=False)
    first, end = np.searchsorted(made.t, [day * DAY, (day + days) * DAY])
    rows: Array = first + np.nonzero(np.isin(column[first:end], drawn))[0]
    return rows
