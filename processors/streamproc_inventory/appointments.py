"""What has to be looked at again: expiries, gaps, orders that do not come, new locations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from streamproc import Context
from streamproc_inventory.book import Parked
from streamproc_inventory.notices import SequenceGap
from streamproc_inventory.outcome import Outcome
from streamproc_inventory.stock import Stock
from streamproc_inventory.timers import (
    GapDue,
    LocationOpened,
    OverdueChange,
    ReservationDue,
    ReviewDue,
)

__all__ = ["Appointments", "tell_gap"]

_BACKLOG_S: Final = 30.0
"""How long a worker that is behind waits for a shard's next event before a reservation expires."""


class Appointments:
    """Schedules what the inventory processor has to look at later, and calls it off.

    Args:
        gap_alarm: seconds after which missing events of a sequence are told.
        gap_timeout: seconds after which they are given up.
        order_wait: seconds between two looks at what waits for its order.
    """

    def __init__(self, gap_alarm: float, gap_timeout: float, order_wait: float) -> None:
        self._gap_alarm, self._gap_timeout = gap_alarm, gap_timeout
        self._order_wait = order_wait

    def follow(self, stock: Stock, had_parked: bool, outcome: Outcome, ctx: Context[Stock]) -> None:
        """Schedule and call off what follows from an event.

        Args:
            stock: as it is now.
            had_parked: whether anything waited for its turn before.
            outcome: what came of the event there.
            ctx: the event's.
        """
        if outcome.expiries or outcome.ended:
            _keep_expiries(outcome, ctx)
        if outcome.gap or outcome.filled or had_parked:
            _follow_gap(stock, outcome, ctx)
        if outcome.waits and stock.book.reviewed_ms is None:
            self.plan_review(outcome.sku, outcome.location_id, stock, ctx)

    def plan_review(self, sku: str, location_id: str, stock: Stock, ctx: Context[Stock]) -> None:
        """Have a stock looked through for what waits too long."""
        at = ctx.arrival_time + self._order_wait
        stock.book.reviewed_ms = round(at * 1000)
        due = ReviewDue(sku=sku, location_id=location_id)
        ctx.schedule(at, due, id=f"review:{sku}|{location_id}", clock="wall")

    def time_gap(self, due: GapDue, ctx: Context[Stock]) -> None:
        """Have a gap told, and given up, if it is not filled until then.

        From now on, and not from the arrival of what waits: a worker that is behind may have the
        missing ones before it.
        """
        for stage, wait in (("open", self._gap_alarm), ("timed-out", self._gap_timeout)):
            later = msgspec.structs.replace(due, stage=stage)
            ctx.schedule(ctx.arrival_time + wait, later, id=_gap_timer(due, stage), clock="wall")

    def put_aside(
        self, due: GapDue, overdue: Iterable[tuple[int, Parked]], ctx: Context[Stock]
    ) -> None:
        """Have each change that waited behind a gap decided on by itself."""
        for sequence, parked in overdue:
            change = OverdueChange(
                sku=due.sku,
                location_id=due.location_id,
                sequence=sequence,
                event_id=parked.event_id,
                event_type=parked.event_type,
                time_ms=parked.time_ms,
                change=parked.change,
            )
            timer = f"overdue:{sequence}:{due.sku}|{due.location_id}"
            ctx.schedule(ctx.arrival_time, change, id=timer, clock="wall")

    def wait_for_backlog(self, due: ReservationDue, ctx: Context[Stock]) -> None:
        """Expire before the first event of the shard that is later, or in a while without one."""
        last = msgspec.structs.replace(due, is_last=True)
        timer = _expiry_timer(due)
        ctx.schedule(ctx.event_time, last, id=timer, clock="event")
        ctx.schedule(ctx.arrival_time + _BACKLOG_S, last, id=f"last-{timer}", clock="wall")

    def list_location(self, sku: str, location_id: str, ctx: Context[Stock]) -> None:
        """Have a new stock listed; by a timer, so that no other event needs the list."""
        opened = LocationOpened(sku=sku, location_id=location_id)
        ctx.schedule(ctx.arrival_time, opened, id=f"open:{sku}|{location_id}", clock="wall")


def tell_gap(
    due: GapDue,
    status: Literal["open", "filled", "timed-out"],
    missing: int,
    waiting: int,
    ctx: Context[Stock],
) -> None:
    """Tell what is the matter with a gap."""
    gap = SequenceGap(
        sku=due.sku, location_id=due.location_id, status=status, missing=missing, waiting=waiting
    )
    ctx.emit(gap, key=f"{due.sku}|{due.location_id}")


def _keep_expiries(outcome: Outcome, ctx: Context[Stock]) -> None:
    sku, location_id = outcome.sku, outcome.location_id
    for reservation, expires_ms in outcome.expiries:
        due = ReservationDue(sku=sku, location_id=location_id, reservation_id=reservation)
        ctx.schedule(expires_ms / 1000, due, id=_expiry_timer(due), clock="wall")
    for reservation in outcome.ended:
        # One that another shard scheduled stays there and finds nothing to do.
        due = ReservationDue(sku=sku, location_id=location_id, reservation_id=reservation)
        ctx.cancel(_expiry_timer(due))


def _follow_gap(stock: Stock, outcome: Outcome, ctx: Context[Stock]) -> None:
    """Start or stop the clock of a gap in a stock's sequence."""
    due = GapDue(
        sku=outcome.sku, location_id=outcome.location_id, missing=outcome.gap, stage="noticed"
    )
    if outcome.filled:
        waited = sum(entry.event_id != ctx.event_id for entry in outcome.entries)
        tell_gap(due, "filled", outcome.filled, waited, ctx)
    if outcome.gap:
        ctx.schedule(ctx.arrival_time, due, id=_gap_timer(due, "noticed"), clock="wall")
    if outcome.gap or not stock.book.parked:
        for stage in ("open", "timed-out") if outcome.gap else ("noticed", "open", "timed-out"):
            ctx.cancel(_gap_timer(due, stage))


def _expiry_timer(due: ReservationDue) -> str:
    return f"expiry:{due.reservation_id}:{due.sku}|{due.location_id}"


def _gap_timer(due: GapDue, stage: str) -> str:
    return f"gap-{stage}:{due.sku}|{due.location_id}"
