"""Takes an event's changes in at its stocks, has told what came of it, and sees to what follows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from streamproc import Context, Event, Reject
from streamproc_inventory.appointments import Appointments
from streamproc_inventory.book import Limits
from streamproc_inventory.changes import Change, Counted
from streamproc_inventory.checks import check_sequence, check_stock
from streamproc_inventory.outcome import Cause, Outcome
from streamproc_inventory.posting import post
from streamproc_inventory.sequences import take
from streamproc_inventory.split import Changes, StockKey
from streamproc_inventory.stock import Stock
from streamproc_inventory.telling import Teller

__all__ = ["Intake"]

_TAKES_GOODS: Final = ("placed", "shipped", "reserved", "committed", "returned")


class Intake:
    """What all handlers of events do alike.

    Args:
        limits: how much a stock may remember.
        locations: those that there are; all, if empty.
        lateness_ms: how long before its arrival an event may have happened.
        earliness_ms: how long after it.
        teller: tells what came of events.
        appointments: sees to what follows from them.
    """

    def __init__(
        self,
        limits: Limits,
        locations: Collection[str],
        lateness_ms: float,
        earliness_ms: float,
        teller: Teller,
        appointments: Appointments,
    ) -> None:
        self._limits = limits
        self._locations = locations
        self._lateness_ms, self._earliness_ms = lateness_ms, earliness_ms
        self._teller = teller
        self._appointments = appointments

    def take(self, changes: Changes, event: Event, ctx: Context[Stock]) -> None:
        """Take in what an event does to its stocks.

        Raises:
            Reject: its time or a location cannot be, or a limit is reached.
        """
        states, locations, cause = ctx.states, self._locations, self._cause(event, ctx)
        for key, at_stock in changes.items():
            if locations and key[1] not in locations:
                raise Reject("unknown-location")
            self._take_at(key, states[key], at_stock, cause, ctx)

    def take_one(self, change: Change, event: Any, ctx: Context[Stock]) -> None:
        """Take in what an event does to its only stock.

        Raises:
            Reject: as `take`, and where the stock's name or the event's number cannot be.
        """
        key = (event.sku, event.location_id)
        check_stock(*key)
        sequence = getattr(event, "sequence", None)
        check_sequence(sequence)
        if self._locations and key[1] not in self._locations:
            raise Reject("unknown-location")
        self._take_at(key, ctx.state, [(change, sequence)], self._cause(event, ctx), ctx)

    def conclude(
        self,
        stock: Stock,
        before: int,
        had_parked: bool,
        outcome: Outcome,
        ctx: Context[Stock],
    ) -> None:
        """Tell what came of an event at a stock, and see to what follows from it.

        Args:
            stock: as it is now.
            before: what was available before.
            had_parked: whether anything waited for its turn before.
            outcome: what came of the event.
            ctx: the event's.
        """
        self._teller.tell(stock, before, outcome, ctx)
        self._appointments.follow(stock, had_parked, outcome, ctx)

    def _take_at(
        self,
        key: StockKey,
        stock: Stock,
        changes: list[tuple[Change, int | None]],
        cause: Cause,
        ctx: Context[Stock],
    ) -> None:
        outcome, limits = Outcome(*key), self._limits
        before, had_parked = stock.available, bool(stock.book.parked)
        is_new = not stock.version
        for change, sequence in changes:
            if sequence is None and type(change) is not Counted:
                post(stock, change, cause, limits, outcome)
            else:
                take(stock, change, sequence, cause, limits, outcome)
        if is_new:
            self._welcome(outcome, cause, ctx)
        self.conclude(stock, before, had_parked, outcome, ctx)

    def _welcome(self, outcome: Outcome, cause: Cause, ctx: Context[Stock]) -> None:
        """Look at what is the first thing known of a stock."""
        if outcome.entries and outcome.entries[0].what in _TAKES_GOODS:
            text = "the first thing known of this stock is that somebody takes from it"
            outcome.find("unknown-stock", cause.event_id, 0, text)
        if not self._locations:
            self._appointments.list_location(outcome.sku, outcome.location_id, ctx)

    def _cause(self, event: Event, ctx: Context[Stock]) -> Cause:
        time_ms, arrival_ms = round(ctx.event_time * 1000), ctx.arrival_time * 1000
        if arrival_ms - time_ms > self._lateness_ms:
            raise Reject("too-late")
        if time_ms - arrival_ms > self._earliness_ms:
            raise Reject("from-the-future")
        return Cause(ctx.event_id, type(event).__event_type__, time_ms)
