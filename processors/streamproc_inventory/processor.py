"""The inventory processor: facts about orders and goods in; stock, a ledger and alerts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from prometheus_client.registry import Collector

from streamproc import (
    ConfigError,
    Context,
    Page,
    Processor,
    Reject,
    StateReader,
    on,
)
from streamproc_inventory import changes as c
from streamproc_inventory import goods_events, reading, split
from streamproc_inventory.appointments import Appointments, tell_gap
from streamproc_inventory.book import Limits
from streamproc_inventory.changes import Change, line_key
from streamproc_inventory.checks import check_name, milliseconds
from streamproc_inventory.drift import DriftCollector
from streamproc_inventory.facts import (
    InboundExpected,
    ItemBackInStock,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    ReservationCommitted,
    ReservationCreated,
    ReservationReleased,
    ReturnReceived,
    StockAdjusted,
    StockCounted,
    StockPolicySet,
    StockReceived,
    StockTransferred,
)
from streamproc_inventory.intake import Intake
from streamproc_inventory.notices import ReservationExpired
from streamproc_inventory.outcome import Cause, Outcome
from streamproc_inventory.posting import post
from streamproc_inventory.reservations import units_due
from streamproc_inventory.sequences import give_up_gap, take
from streamproc_inventory.sequences import tell_gap as note_gap
from streamproc_inventory.stock import Stock
from streamproc_inventory.telling import Teller
from streamproc_inventory.timers import (
    GapDue,
    LocationOpened,
    OverdueChange,
    ReservationDue,
    ReviewDue,
)
from streamproc_inventory.upgrades import from_version_1
from streamproc_inventory.waiting import review

__all__ = ["InventoryProcessor"]

_BEHIND_S: Final = 2.0
"""A timer that is later than this shows that its worker is behind, or was away."""


class InventoryProcessor(Processor[Stock]):
    """Keep the stock of each (sku, location), a ledger of its changes, and alerts.

    A stream tells facts and cannot refuse them: an order for more than there is makes `available`
    negative and sends `Oversold`. Levels do not depend on the order in which events arrive, except
    for those that carry a sequence number: these are applied in its order. An event is applied to
    all its stocks or to none; one that makes no sense is rejected as a whole, with a reason that
    docs/inventory.md lists.

    Args:
        low_stock: `StockLow` is sent when available falls to this; a stock's policy may differ.
        low_stock_rearm: and again only after available rose above this.
        ledger: whether each change is emitted as a `LedgerEntry`.
        locations: the locations that there are; events about others are rejected. All, if empty.
        max_lateness: seconds that an event's time may lie before its arrival; 0 for no bound.
            Events may be repeated later than the engine's `dedupe.ttl` remembers: keep it below.
        max_earliness: seconds that an event's time may lie after its arrival.
        max_open_lines: most lines and reservations of a stock that are open, or wait.
        settled_lines_kept: settled lines remembered per stock, to notice one closed twice.
        moves_kept: latest moves of goods remembered per stock, for counts of an earlier moment.
        max_parked: most events of a stock that wait for earlier ones of their sequence.
        gap_alarm: seconds after which `SequenceGap` tells that events are missing.
        gap_timeout: seconds after which those that wait for them go to the dead letters.
        order_wait: seconds after which it is told that an order has not come for a line that was
            shipped, cancelled or promised; told again each time so many have passed.

    Raises:
        ConfigError: an argument makes no sense.
    """

    name = "inventory"
    state_version = 2
    state_upgrades: ClassVar = {1: from_version_1}

    def __init__(
        self,
        low_stock: int = 5,
        low_stock_rearm: int = 10,
        ledger: bool = True,
        locations: Sequence[str] = (),
        max_lateness: float = 172_800.0,
        max_earliness: float = 86_400.0,
        max_open_lines: int = 100_000,
        settled_lines_kept: int = 100,
        moves_kept: int = 100,
        max_parked: int = 1_000,
        gap_alarm: float = 3.0,
        gap_timeout: float = 300.0,
        order_wait: float = 3_600.0,
    ) -> None:
        _require(low_stock_rearm >= low_stock, "low_stock_rearm", "must not be below low_stock")
        _require(max_lateness >= 0, "max_lateness", "must be at least 0")
        _require(max_earliness >= 0, "max_earliness", "must be at least 0")
        _require(max_open_lines >= 1, "max_open_lines", "must be at least 1")
        _require(settled_lines_kept >= 0, "settled_lines_kept", "must be at least 0")
        _require(moves_kept >= 0, "moves_kept", "must be at least 0")
        _require(max_parked >= 1, "max_parked", "must be at least 1")
        _require(gap_alarm >= 0, "gap_alarm", "must be at least 0")
        _require(gap_timeout > gap_alarm, "gap_timeout", "must be greater than gap_alarm")
        _require(order_wait > 0, "order_wait", "must be greater than 0")
        self._locations = frozenset(locations)
        self._lateness_ms = max_lateness * 1000 or float("inf")
        self._earliness_ms = max_earliness * 1000
        self._order_wait_ms = order_wait * 1000
        self._drift = DriftCollector()
        self._limits = Limits(max_open_lines, settled_lines_kept, moves_kept, max_parked)
        self._appointments = Appointments(gap_alarm, gap_timeout, order_wait)
        self._intake = Intake(
            self._limits,
            self._locations,
            self._lateness_ms,
            self._earliness_ms,
            Teller(low_stock, low_stock_rearm, ledger, self._drift),
            self._appointments,
        )

    # Orders.

    @on(OrderPlaced, keys=lambda order: split.stocks_of_lines(order.lines))
    def place(self, order: OrderPlaced, ctx: Context[Stock]) -> None:
        """Promise the order's quantities."""
        changes = split.split_lines(order.order_id, order.lines, split.placed)
        self._intake.take(changes, order, ctx)

    @on(OrderCancelled, keys=lambda order: split.stocks_of_lines(order.lines))
    def cancel(self, order: OrderCancelled, ctx: Context[Stock]) -> None:
        """Take the promise back."""
        changes = split.split_lines(order.order_id, order.lines, split.cancelled)
        self._intake.take(changes, order, ctx)

    @on(OrderShipped, keys=lambda order: split.stocks_of_lines(order.lines))
    def ship(self, order: OrderShipped, ctx: Context[Stock]) -> None:
        """Fulfil the promise: the goods are gone."""
        changes = split.split_lines(order.order_id, order.lines, split.shipped)
        self._intake.take(changes, order, ctx)

    @on(ReturnReceived, keys=lambda e: split.stocks_of_parts(e.sku, e.location_id, e.components))
    def take_back(self, event: ReturnReceived, ctx: Context[Stock]) -> None:
        """Add what came back, as fit for sale as it is."""
        bucket: c.Bucket = "available" if event.disposition == "restock" else event.disposition
        key = _line_of(event.order_id, event.line_id)
        self._take_parts(event, event.quantity, lambda units: c.Returned(key, units, bucket), ctx)

    # Goods.

    @on(StockReceived, key=lambda event: (event.sku, event.location_id))
    def receive(self, event: StockReceived, ctx: Context[Stock]) -> None:
        """Add the goods that arrived."""
        self._intake.take_one(goods_events.received(event), event, ctx)

    @on(ItemBackInStock, key=lambda event: (event.sku, event.location_id))
    def receive_again(self, event: ItemBackInStock, ctx: Context[Stock]) -> None:
        """Add the goods that arrived."""
        self._intake.take_one(goods_events.received(event), event, ctx)

    @on(InboundExpected, key=lambda event: (event.sku, event.location_id))
    def expect(self, event: InboundExpected, ctx: Context[Stock]) -> None:
        """Note goods that are on their way."""
        self._intake.take_one(goods_events.expected(event), event, ctx)

    @on(
        StockTransferred,
        keys=lambda event: [(event.sku, event.from_location_id), (event.sku, event.to_location_id)],
    )
    def transfer(self, event: StockTransferred, ctx: Context[Stock]) -> None:
        """Move goods from one location to another, by way of the destination's incoming."""
        self._intake.take(goods_events.transferred(event), event, ctx)

    @on(StockAdjusted, key=lambda event: (event.sku, event.location_id))
    def adjust(self, event: StockAdjusted, ctx: Context[Stock]) -> None:
        """Correct the stock by hand."""
        self._intake.take_one(goods_events.adjusted(event), event, ctx)

    @on(StockCounted, key=lambda event: (event.sku, event.location_id))
    def count(self, event: StockCounted, ctx: Context[Stock]) -> None:
        """Rest on_hand on what was counted, and on what moved since."""
        latest_ms = ctx.arrival_time * 1000 + self._earliness_ms
        self._intake.take_one(goods_events.counted(event, latest_ms), event, ctx)

    @on(StockPolicySet, key=lambda event: (event.sku, event.location_id))
    def set_policy(self, event: StockPolicySet, ctx: Context[Stock]) -> None:
        """Set the safety stock and the thresholds."""
        self._intake.take_one(goods_events.policy_set(event), event, ctx)

    # Reservations.

    @on(
        ReservationCreated, keys=lambda e: split.stocks_of_parts(e.sku, e.location_id, e.components)
    )
    def reserve(self, event: ReservationCreated, ctx: Context[Stock]) -> None:
        """Hold the units until they expire."""
        expires = milliseconds(event.expires_at)
        check_name(event.reservation_id)
        self._take_parts(
            event, event.quantity, lambda n: c.Reserved(event.reservation_id, n, expires), ctx
        )

    @on(
        ReservationReleased,
        keys=lambda e: split.stocks_of_parts(e.sku, e.location_id, e.components),
    )
    def release(self, event: ReservationReleased, ctx: Context[Stock]) -> None:
        """Set the units free."""
        self._take_parts(event, 1, lambda _: c.Released(event.reservation_id), ctx)

    @on(
        ReservationCommitted,
        keys=lambda e: split.stocks_of_parts(e.sku, e.location_id, e.components),
    )
    def commit(self, event: ReservationCommitted, ctx: Context[Stock]) -> None:
        """Make the units those of an order line."""
        key = _line_of(event.order_id, event.line_id)
        self._take_parts(
            event, event.quantity, lambda n: c.Committed(event.reservation_id, key, n), ctx
        )

    # Timers.

    @on(ReservationDue, key=lambda due: (due.sku, due.location_id))
    def expire(self, due: ReservationDue, ctx: Context[Stock]) -> None:
        """End a reservation that nobody ended."""
        stock, now, reservation = ctx.state, ctx.arrival_time, due.reservation_id
        if not due.is_last and now - ctx.event_time > _BEHIND_S:
            if reservation in stock.book.reservations:
                self._appointments.wait_for_backlog(due, ctx)
            return
        units = units_due(stock, reservation, round(now * 1000))
        if not units:
            return
        outcome, before = Outcome(due.sku, due.location_id), stock.available
        expires_ms = stock.book.reservations[reservation].expires_ms
        cause = Cause(ctx.event_id, "ReservationExpiry", expires_ms)
        post(stock, c.Expired(reservation), cause, self._limits, outcome)
        self._intake.conclude(stock, before, False, outcome, ctx)
        ctx.emit(
            ReservationExpired(
                reservation_id=reservation,
                sku=due.sku,
                location_id=due.location_id,
                quantity=units,
                available=stock.available,
                version=stock.version,
            ),
            key=f"{due.sku}|{due.location_id}",
        )

    @on(GapDue, key=lambda due: (due.sku, due.location_id))
    def look_at_gap(self, due: GapDue, ctx: Context[Stock]) -> None:
        """Tell that events are missing, and in the end give them up."""
        stock, missing = ctx.state, due.missing
        if not stock.book.parked or stock.book.sequence + 1 != missing:
            return
        if due.stage == "noticed":
            self._appointments.time_gap(due, ctx)
        elif due.stage == "open":
            if waiting := note_gap(stock, missing):
                tell_gap(due, "open", missing, waiting, ctx)
        else:
            overdue = give_up_gap(stock, missing)
            tell_gap(due, "timed-out", missing, len(overdue), ctx)
            self._appointments.put_aside(due, overdue, ctx)

    @on(OverdueChange, key=lambda overdue: (overdue.sku, overdue.location_id))
    def take_overdue(self, overdue: OverdueChange, ctx: Context[Stock]) -> None:
        """Apply a change if its turn has come after all, else have it put aside."""
        stock = ctx.state
        if overdue.sequence > stock.book.sequence + 1:
            raise Reject("sequence-gap")
        outcome, before = Outcome(overdue.sku, overdue.location_id), stock.available
        had_parked = bool(stock.book.parked)
        cause = Cause(overdue.event_id, overdue.event_type, overdue.time_ms)
        take(stock, overdue.change, overdue.sequence, cause, self._limits, outcome)
        self._intake.conclude(stock, before, had_parked, outcome, ctx)

    @on(ReviewDue, key=lambda due: (due.sku, due.location_id))
    def review(self, due: ReviewDue, ctx: Context[Stock]) -> None:
        """Tell what waits for an order that does not come."""
        stock, outcome = ctx.state, Outcome(due.sku, due.location_id)
        before, now_ms = stock.available, round(ctx.arrival_time * 1000)
        still_waits = review(
            stock,
            now_ms,
            self._order_wait_ms,
            self._lateness_ms,
            ctx.event_id,
            self._limits,
            outcome,
        )
        stock.book.reviewed_ms = None
        if still_waits:
            self._appointments.plan_review(due.sku, due.location_id, stock, ctx)
        self._intake.conclude(stock, before, False, outcome, ctx)

    @on(
        LocationOpened,
        key=lambda opened: (opened.sku, opened.location_id),
        counters=lambda opened: [(opened.sku,)],
    )
    def open_location(self, opened: LocationOpened, ctx: Context[Stock]) -> None:
        """List a new stock with the others of its item."""
        ctx.counters[opened.sku,].add(opened.location_id)

    def pages(self, states: StateReader) -> Sequence[Page]:
        """Return /inventory/{sku} and /inventory/{sku}/{location}."""
        return reading.pages(self, states, self._locations)

    def collectors(self) -> Sequence[Collector]:
        """Return the drift of counts."""
        return [self._drift]

    def _take_parts(
        self, event: Any, quantity: int, change_of: Callable[[int], Change], ctx: Context[Stock]
    ) -> None:
        sku, location_id, parts = event.sku, event.location_id, event.components
        changes = split.split_parts(sku, location_id, quantity, parts, event.sequence, change_of)
        self._intake.take(changes, event, ctx)


def _line_of(order_id: str, line_id: str) -> str:
    if not order_id:
        raise Reject("no-order")
    if not line_id:
        raise Reject("no-line")
    return line_key(order_id, line_id)


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise ConfigError(f"processors.inventory.{name}: {what}")
