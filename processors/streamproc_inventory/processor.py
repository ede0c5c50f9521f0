"""The inventory processor: facts about orders and goods in; stock, a ledger and alerts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from prometheus_client.registry import Collector

from streamproc import (
    ConfigError,
    Context,
    Event,
    Page,
    Processor,
    Reject,
    StateReader,
    on,
)
from streamproc_inventory import changes as c
from streamproc_inventory import reading, split
from streamproc_inventory.alerts import crossings
from streamproc_inventory.book import Limits
from streamproc_inventory.changes import Change, line_key
from streamproc_inventory.drift import DriftCollector
from streamproc_inventory.facts import (
    Component,
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
from streamproc_inventory.notices import (
    ReservationExpired,
    SequenceGap,
)
from streamproc_inventory.split import LineChange, StockKey
from streamproc_inventory.stock import Finding, Outcome, Stock
from streamproc_inventory.telling import drift_of, ledger_entry, notice_of
from streamproc_inventory.timers import (
    GapDue,
    LocationOpened,
    OverdueChange,
    ReservationDue,
    ReviewDue,
)

__all__ = ["InventoryProcessor"]

_BEHIND_S: Final = 2.0
"""A timer that is later than this shows that its worker is behind, or was away."""

_BACKLOG_S: Final = 30.0
"""How long a worker that is behind waits for a shard's next event before a reservation expires."""

_TAKES_GOODS: Final = (c.Placed, c.Shipped, c.Reserved, c.Committed, c.Returned)


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
        self._low, self._rearm = low_stock, low_stock_rearm
        self._gap_alarm, self._gap_timeout = gap_alarm, gap_timeout
        self._order_wait = order_wait
        self._ledger = ledger
        self._locations = frozenset(locations)
        self._lateness_ms = max_lateness * 1000 or float("inf")
        self._earliness_ms = max_earliness * 1000
        self._drift = DriftCollector()
        self._limits = Limits(max_open_lines, settled_lines_kept, moves_kept, max_parked)

    # Orders.

    @on(OrderPlaced, keys=lambda order: split.stocks_of_lines(order.lines))
    def place(self, order: OrderPlaced, ctx: Context[Stock]) -> None:
        """Promise the order's quantities."""
        self._take(split.split_lines(order.order_id, order.lines, split.placed), ctx, order)

    @on(OrderCancelled, keys=lambda order: split.stocks_of_lines(order.lines))
    def cancel(self, order: OrderCancelled, ctx: Context[Stock]) -> None:
        """Take the promise back."""
        self._take(split.split_lines(order.order_id, order.lines, split.cancelled), ctx, order)

    @on(OrderShipped, keys=lambda order: split.stocks_of_lines(order.lines))
    def ship(self, order: OrderShipped, ctx: Context[Stock]) -> None:
        """Fulfil the promise: the goods are gone."""
        self._take(split.split_lines(order.order_id, order.lines, split.shipped), ctx, order)

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
        self._receive(event, ctx)

    @on(ItemBackInStock, key=lambda event: (event.sku, event.location_id))
    def receive_again(self, event: ItemBackInStock, ctx: Context[Stock]) -> None:
        """Add the goods that arrived."""
        self._receive(event, ctx)

    @on(InboundExpected, key=lambda event: (event.sku, event.location_id))
    def expect(self, event: InboundExpected, ctx: Context[Stock]) -> None:
        """Note goods that are on their way."""
        split.check_quantity(event.quantity)
        self._take_one(event, c.Expected(event.quantity, event.actor), ctx)

    @on(
        StockTransferred,
        keys=lambda event: [(event.sku, event.from_location_id), (event.sku, event.to_location_id)],
    )
    def transfer(self, event: StockTransferred, ctx: Context[Stock]) -> None:
        """Move goods from one location to another, by way of the destination's incoming."""
        source, target = event.from_location_id, event.to_location_id
        split.check_quantity(event.quantity)
        split.check_stock(event.sku, source)
        split.check_stock(event.sku, target)
        if not event.transfer_id:
            raise Reject("no-transfer")
        if source == target:
            raise Reject("transfer-to-itself")
        facts = (event.transfer_id, event.quantity, event.actor)
        changes: dict[StockKey, list[LineChange]] = {}
        if event.phase == "out":
            changes[event.sku, source] = [(c.Dispatched(*facts), None)]
            changes[event.sku, target] = [(c.Transit(*facts), None)]
        elif event.phase == "in":
            changes[event.sku, target] = [(c.Arrived(*facts), None)]
        else:
            changes[event.sku, target] = [(c.Lost(*facts), None)]
        self._take(changes, ctx, event)

    @on(StockAdjusted, key=lambda event: (event.sku, event.location_id))
    def adjust(self, event: StockAdjusted, ctx: Context[Stock]) -> None:
        """Correct the stock by hand."""
        if not event.reason:
            raise Reject("no-reason")
        split.check_quantity(abs(event.quantity))
        change = c.Adjusted(event.quantity, event.condition, event.reason, event.actor)
        self._take_one(event, change, ctx)

    @on(StockCounted, key=lambda event: (event.sku, event.location_id))
    def count(self, event: StockCounted, ctx: Context[Stock]) -> None:
        """Rest on_hand on what was counted, and on what moved since."""
        if event.quantity < 0:
            raise Reject("quantity-negative")
        if event.quantity:
            split.check_quantity(event.quantity)
        if event.through_sequence is not None and event.through_sequence < 1:
            raise Reject("sequence-not-positive")
        as_of = split.milliseconds(event.as_of)
        if as_of > ctx.arrival_time * 1000 + self._earliness_ms:
            raise Reject("from-the-future")
        change = c.Counted(event.quantity, as_of, event.through_sequence, event.actor)
        self._take_one(event, change, ctx)

    @on(StockPolicySet, key=lambda event: (event.sku, event.location_id))
    def set_policy(self, event: StockPolicySet, ctx: Context[Stock]) -> None:
        """Set the safety stock and the thresholds."""
        if not 0 <= event.safety_stock <= split.LARGEST_QUANTITY:
            raise Reject("quantity-not-possible")
        low, rearm = event.low_stock, event.low_stock_rearm
        if rearm is not None and (low is None or rearm < low):
            raise Reject("rearm-below-threshold")
        self._take_one(event, c.PolicySet(event.safety_stock, low, rearm, event.actor), ctx)

    # Reservations.

    @on(
        ReservationCreated, keys=lambda e: split.stocks_of_parts(e.sku, e.location_id, e.components)
    )
    def reserve(self, event: ReservationCreated, ctx: Context[Stock]) -> None:
        """Hold the units until they expire."""
        expires = split.milliseconds(event.expires_at)
        split.check_name(event.reservation_id)
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
        stock, now = ctx.state, ctx.arrival_time
        if not due.is_last and now - ctx.event_time > _BEHIND_S:
            if due.reservation_id in stock.book.reservations:
                self._wait_for_backlog(due, ctx)
            return
        outcome, before = Outcome(), stock.available
        now_ms = round(now * 1000)
        units = stock.expire(due.reservation_id, now_ms, ctx.event_id, self._limits, outcome)
        if units:
            self._tell((due.sku, due.location_id), stock, before, outcome, ctx)
            ctx.emit(
                ReservationExpired(
                    reservation_id=due.reservation_id,
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
            # From now on, and not from the arrival of what waits: a worker that is behind may have
            # the missing ones before it.
            now = ctx.arrival_time
            for stage, wait in (("open", self._gap_alarm), ("timed-out", self._gap_timeout)):
                later = msgspec.structs.replace(due, stage=stage)
                ctx.schedule(now + wait, later, id=_gap_timer(due, stage), clock="wall")
        elif due.stage == "open":
            if waiting := stock.tell_gap(missing):
                self._tell_gap(due, "open", missing, waiting, ctx)
        else:
            overdue = stock.give_up_gap(missing)
            self._tell_gap(due, "timed-out", missing, len(overdue), ctx)
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

    @on(OverdueChange, key=lambda overdue: (overdue.sku, overdue.location_id))
    def take_overdue(self, overdue: OverdueChange, ctx: Context[Stock]) -> None:
        """Apply a change if its turn has come after all, else have it put aside."""
        stock = ctx.state
        if overdue.sequence > stock.book.sequence + 1:
            raise Reject("sequence-gap")
        outcome, before = Outcome(), stock.available
        had_parked = bool(stock.book.parked)
        stock.take(
            overdue.change,
            overdue.event_id,
            overdue.event_type,
            overdue.time_ms,
            self._limits,
            outcome,
            overdue.sequence,
        )
        key = (overdue.sku, overdue.location_id)
        self._tell(key, stock, before, outcome, ctx, had_parked)

    @on(ReviewDue, key=lambda due: (due.sku, due.location_id))
    def review(self, due: ReviewDue, ctx: Context[Stock]) -> None:
        """Tell what waits for an order that does not come."""
        stock, outcome, now = ctx.state, Outcome(), ctx.arrival_time
        before = stock.available
        still_waits = stock.review(
            round(now * 1000),
            self._order_wait * 1000,
            self._lateness_ms,
            ctx.event_id,
            self._limits,
            outcome,
        )
        stock.book.reviewed_ms = None
        if still_waits:
            self._plan_review(due.sku, due.location_id, stock, ctx)
        self._tell((due.sku, due.location_id), stock, before, outcome, ctx)

    @on(
        LocationOpened,
        key=lambda opened: (opened.sku, opened.location_id),
        counters=lambda opened: [(opened.sku,)],
    )
    def open_location(self, opened: LocationOpened, ctx: Context[Stock]) -> None:
        """List a new stock; by a timer, so that no other event needs the list."""
        ctx.counters[opened.sku,].add(opened.location_id)

    def pages(self, states: StateReader) -> Sequence[Page]:
        """Return /inventory/{sku} and /inventory/{sku}/{location}."""
        return reading.pages(self, states, self._locations)

    def collectors(self) -> Sequence[Collector]:
        """Return the drift of counts."""
        return [self._drift]

    # What all of them share.

    def _receive(self, event: StockReceived | ItemBackInStock, ctx: Context[Stock]) -> None:
        split.check_quantity(event.quantity)
        if not 0 <= event.from_incoming <= event.quantity:
            raise Reject("from-incoming-not-possible")
        change = c.Received(event.quantity, event.from_incoming, event.actor)
        self._take_one(event, change, ctx)

    def _take_one(self, event: Any, change: Change, ctx: Context[Stock]) -> None:
        split.check_stock(event.sku, event.location_id)
        sequence = getattr(event, "sequence", None)
        if sequence is not None and sequence < 1:
            raise Reject("sequence-not-positive")
        self._check_location(event.location_id)
        stock = ctx.state
        kind, time_ms = type(event).__event_type__, self._time_ms(ctx)
        key = (event.sku, event.location_id)
        self._take_at(key, stock, [(change, sequence)], kind, time_ms, ctx)

    def _take_parts(self, event: Any, quantity: int, change_of: Any, ctx: Context[Stock]) -> None:
        split.check_stock(event.sku, event.location_id)
        split.check_quantity(quantity)
        parts: Sequence[Component] = event.components
        if event.sequence is not None and (parts or event.sequence < 1):
            raise Reject("kit-with-sequence" if parts else "sequence-not-positive")
        changes = {
            (sku, event.location_id): [(change_of(units), event.sequence)]
            for sku, units in split.parts_of(event.sku, quantity, parts)
        }
        self._take(changes, ctx, event)

    def _take(
        self, changes: Mapping[StockKey, list[LineChange]], ctx: Context[Stock], event: Event
    ) -> None:
        states, kind, time_ms = ctx.states, type(event).__event_type__, self._time_ms(ctx)
        for key, at_stock in changes.items():
            if self._locations:
                self._check_location(key[1])
            self._take_at(key, states[key], at_stock, kind, time_ms, ctx)

    def _take_at(
        self,
        key: StockKey,
        stock: Stock,
        changes: list[LineChange],
        event_type: str,
        time_ms: int,
        ctx: Context[Stock],
    ) -> None:
        outcome, limits, event_id = Outcome(), self._limits, ctx.event_id
        is_new, before = stock.version == 0, stock.available
        had_parked = bool(stock.book.parked)
        for change, sequence in changes:
            stock.take(change, event_id, event_type, time_ms, limits, outcome, sequence)
        if is_new and outcome.entries and isinstance(outcome.entries[0].change, _TAKES_GOODS):
            text = "the first thing known of this stock is that somebody takes from it"
            outcome.findings.append(Finding("unknown-stock", event_id, 0, text))
        if is_new and not self._locations:
            opened = LocationOpened(sku=key[0], location_id=key[1])
            ctx.schedule(ctx.arrival_time, opened, id=f"open:{key[0]}|{key[1]}", clock="wall")
        self._tell(key, stock, before, outcome, ctx, had_parked)

    def _tell(
        self,
        key: StockKey,
        stock: Stock,
        before: int,
        outcome: Outcome,
        ctx: Context[Stock],
        had_parked: bool = False,
    ) -> None:
        """Emit the ledger, the findings and the alerts of what was done to a stock."""
        sku, location_id = key
        text = f"{sku}|{location_id}"
        emit, has_ledger = ctx.emit, self._ledger
        for entry in outcome.entries:
            if has_ledger:
                emit(ledger_entry(sku, location_id, entry), key=text)
            if type(entry.change) is c.Counted and not entry.note:
                self._drift.note(sku, location_id, drift_of(outcome, entry.event_id))
        for finding in outcome.findings:
            emit(notice_of(sku, location_id, finding, stock, outcome), key=text)
        if stock.available != before:
            for alert in crossings(stock, sku, location_id, before, self._low, self._rearm):
                emit(alert, key=text)
        if outcome.expiries or outcome.ended:
            self._keep_expiries(sku, location_id, outcome, ctx)
        if outcome.gap or outcome.filled or had_parked:
            self._follow_gap(sku, location_id, stock, outcome, ctx)
        if outcome.waits and stock.book.reviewed_ms is None:
            self._plan_review(sku, location_id, stock, ctx)

    def _keep_expiries(
        self, sku: str, location_id: str, outcome: Outcome, ctx: Context[Stock]
    ) -> None:
        for reservation, expires_ms in outcome.expiries:
            due = ReservationDue(sku=sku, location_id=location_id, reservation_id=reservation)
            ctx.schedule(expires_ms / 1000, due, id=_expiry_timer(due), clock="wall")
        for reservation in outcome.ended:
            # One that another shard scheduled stays there and finds nothing to do.
            due = ReservationDue(sku=sku, location_id=location_id, reservation_id=reservation)
            ctx.cancel(_expiry_timer(due))

    def _wait_for_backlog(self, due: ReservationDue, ctx: Context[Stock]) -> None:
        """Expire before the first event of the shard that is later, or in a while without one."""
        last = msgspec.structs.replace(due, is_last=True)
        timer = _expiry_timer(due)
        ctx.schedule(ctx.event_time, last, id=timer, clock="event")
        ctx.schedule(ctx.arrival_time + _BACKLOG_S, last, id=f"last-{timer}", clock="wall")

    def _follow_gap(
        self, sku: str, location_id: str, stock: Stock, outcome: Outcome, ctx: Context[Stock]
    ) -> None:
        """Start or stop the clock of a gap in a stock's sequence."""
        due = GapDue(sku=sku, location_id=location_id, missing=outcome.gap, stage="noticed")
        if outcome.filled:
            waited = sum(entry.event_id != ctx.event_id for entry in outcome.entries)
            self._tell_gap(due, "filled", outcome.filled, waited, ctx)
        if outcome.gap:
            ctx.schedule(ctx.arrival_time, due, id=_gap_timer(due, "noticed"), clock="wall")
        if outcome.gap or not stock.book.parked:
            for stage in ("open", "timed-out") if outcome.gap else ("noticed", "open", "timed-out"):
                ctx.cancel(_gap_timer(due, stage))

    def _tell_gap(
        self,
        due: GapDue,
        status: Literal["open", "filled", "timed-out"],
        missing: int,
        waiting: int,
        ctx: Context[Stock],
    ) -> None:
        gap = SequenceGap(
            sku=due.sku,
            location_id=due.location_id,
            status=status,
            missing=missing,
            waiting=waiting,
        )
        ctx.emit(gap, key=f"{due.sku}|{due.location_id}")

    def _plan_review(self, sku: str, location_id: str, stock: Stock, ctx: Context[Stock]) -> None:
        at = ctx.arrival_time + self._order_wait
        stock.book.reviewed_ms = round(at * 1000)
        due = ReviewDue(sku=sku, location_id=location_id)
        ctx.schedule(at, due, id=f"review:{sku}|{location_id}", clock="wall")

    def _check_location(self, location_id: str) -> None:
        if self._locations and location_id not in self._locations:
            raise Reject("unknown-location")

    def _time_ms(self, ctx: Context[Stock]) -> int:
        """Return the event's time.

        Raises:
            Reject: it is too far from the event's arrival.
        """
        time_ms, arrival_ms = round(ctx.event_time * 1000), ctx.arrival_time * 1000
        if arrival_ms - time_ms > self._lateness_ms:
            raise Reject("too-late")
        if time_ms - arrival_ms > self._earliness_ms:
            raise Reject("from-the-future")
        return time_ms


def _expiry_timer(due: ReservationDue) -> str:
    return f"expiry:{due.reservation_id}:{due.sku}|{due.location_id}"


def _gap_timer(due: GapDue, stage: str) -> str:
    return f"gap-{stage}:{due.sku}|{due.location_id}"


def _line_of(order_id: str, line_id: str) -> str:
    if not order_id:
        raise Reject("no-order")
    if not line_id:
        raise Reject("no-line")
    return line_key(order_id, line_id)


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise ConfigError(f"processors.inventory.{name}: {what}")
