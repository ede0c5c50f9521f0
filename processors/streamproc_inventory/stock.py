"""The stock of one item at one location, as a function of the set of events about it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from streamproc import Reject
from streamproc_inventory import changes as c
from streamproc_inventory.book import Book, Ended, Limits, Line, Parked, Reservation, Waiting
from streamproc_inventory.changes import Change

__all__ = ["Entry", "Finding", "Levels", "Outcome", "Stock"]


class Levels(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The quantities of a stock at one moment, in units; on the wire an array in this order."""

    on_hand: int = 0
    committed: int = 0
    reserved: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    available: int = 0


class Finding(NamedTuple):
    """Something that cannot be right, or that was not applied.

    Attributes:
        kind: one of those that `InventoryAnomaly` lists, or ``drift`` or ``outdated-count``.
        subject: the order line, reservation, count or number that it is about.
        quantity: units in question.
        detail: a sentence for people.
    """

    kind: str
    subject: str
    quantity: int
    detail: str


class Entry(NamedTuple):
    """One change as applied: a line of the ledger."""

    change: Change
    event_id: str
    event_type: str
    time_ms: int
    version: int
    before: Levels
    after: Levels
    note: str


class Outcome:
    """What came of an event.

    Attributes:
        entries: the changes applied; none if it was parked or dropped, several if it filled a gap.
        findings: what to tell somebody.
        expiries: reservations that began, and the moments in ms at which they expire.
        ended: reservations that ended.
        gap: number of the sequence's first missing event, when a gap began before it.
        filled: number of a told gap's first missing event, when that gap is filled.
        waits: whether something began to wait for its order or its creation.
    """

    __slots__ = ("ended", "entries", "expiries", "filled", "findings", "gap", "waits")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.findings: list[Finding] = []
        self.expiries: list[tuple[str, int]] = []
        self.ended: list[str] = []
        self.gap = 0
        self.filled = 0
        self.waits = False


class Stock(msgspec.Struct):
    """Stock of one item at one location.

    Invariants: `available` is `on_hand - committed - reserved - damaged - quality_control -
    safety_stock`; `committed` is the sum of the order lines' open units, `reserved` that of the
    live reservations; `oversold` is `max(-available, 0)`; `version` grows by one with each change.
    Levels depend on the set of events applied, not on their order: lines and reservations hold
    what became of their units, sums commute, and a count holds for the moments up to its own.

    Attributes:
        on_hand: units physically there, in whatever condition; below 0 when more left than came.
        committed: promised to orders and not yet shipped.
        reserved: held by live reservations.
        incoming: announced and not yet arrived; below 0 while an arrival precedes its notice.
        version: number of changes so far.
        last_event: id of the event that made the last one.
        updated_ms: latest event time so far, in ms since the epoch.
    """

    on_hand: int = 0
    committed: int = 0
    reserved: int = 0
    incoming: int = 0
    damaged: int = 0
    quality_control: int = 0
    safety_stock: int = 0
    available: int = 0
    oversold: int = 0
    version: int = 0
    last_event: str = ""
    updated_ms: int = 0
    book: Book = msgspec.field(default_factory=Book)

    @property
    def levels(self) -> Levels:
        """The quantities now."""
        return Levels(
            self.on_hand,
            self.committed,
            self.reserved,
            self.incoming,
            self.damaged,
            self.quality_control,
            self.safety_stock,
            self.available,
        )

    def take(
        self,
        change: Change,
        event_id: str,
        event_type: str,
        time_ms: int,
        limits: Limits,
        outcome: Outcome,
        sequence: int | None = None,
    ) -> None:
        """Apply a change, or park it until its turn, and note in `outcome` what came of it.

        Args:
            change: what happened here.
            event_id: of the event that says so.
            event_type: its type.
            time_ms: when it happened.
            limits: how much may be remembered.
            outcome: takes the results.
            sequence: its number in the stock's own sequence of events, if it has one.

        Raises:
            Reject: a limit is reached; the stock is of no use any more, as a handler's that raises.
        """
        if sequence is None and type(change) is not c.Counted:
            self._apply(change, event_id, event_type, time_ms, limits, outcome)
            return
        book = self.book
        missing = book.sequence + 1
        if sequence is not None and sequence < missing:
            outcome.findings.append(
                Finding(
                    "stale-sequence",
                    str(sequence),
                    getattr(change, "quantity", 0),
                    f"event {sequence} came after {book.sequence} was applied; dropped",
                )
            )
            return
        if sequence is None or (type(change) is c.Counted and (change.through or 0) >= sequence):
            self._apply(change, event_id, event_type, time_ms, limits, outcome)
        else:
            self._park(sequence, Parked(change, event_id, event_type, time_ms), limits, outcome)
        self._go_on(missing, limits, outcome)

    def expire(
        self, reservation: str, now_ms: int, event_id: str, limits: Limits, outcome: Outcome
    ) -> int:
        """End a reservation whose time is up; return the units set free, 0 if it is not due."""
        held = self.book.reservations.get(reservation)
        if held is None or held.expires_ms > now_ms:
            return 0
        units = held.quantity
        expired = c.Expired(reservation)
        self._apply(expired, event_id, "ReservationExpiry", held.expires_ms, limits, outcome)
        return units

    def tell_gap(self, missing: int) -> int:
        """Note that a gap is told; return how many wait behind it, 0 if it is filled or told."""
        book = self.book
        if not book.parked or book.sequence + 1 != missing or book.gap == missing:
            return 0
        book.gap = missing
        return len(book.parked)

    def give_up_gap(self, missing: int) -> list[tuple[int, Parked]]:
        """Take out what waits behind a gap that nobody filled, in order of its numbers."""
        book = self.book
        if not book.parked or book.sequence + 1 != missing:
            return []
        parked = sorted(book.parked.items())
        book.parked, book.gap = {}, 0
        return parked

    def review(
        self, now_ms: int, wait_ms: float, lateness_ms: float, event_id: str, limits: Limits,
        outcome: Outcome,
    ) -> bool:  # fmt: skip
        """Tell what waits for long, forget what waits in vain; return whether anything still waits.

        Args:
            now_ms: the time now.
            wait_ms: how long something may wait before it is told.
            lateness_ms: how late an event may be: what it would bring later is rejected.
            event_id: of the event that asks for the review.
            limits: how much may be remembered.
            outcome: takes the results.
        """
        book = self.book
        for key, line in book.waiting_lines().items():
            if now_ms - line.since_ms > lateness_ms:
                self._apply(
                    c.Forgotten(key), event_id, "StockReviewDue", line.since_ms, limits, outcome
                )
        for key, end in list(book.early.items()):
            if now_ms - end.since_ms > lateness_ms:
                del book.early[key]
        lines = book.waiting_lines()
        long = {key: line.since_ms for key, line in lines.items()}
        _tell_waiting("order-missing", "order lines wait for their order", long, now_ms - wait_ms,
                      outcome)  # fmt: skip
        early = {key: end.since_ms for key, end in book.early.items()}
        _tell_waiting("reservation-missing", "reservations ended and were never created", early,
                      now_ms - wait_ms, outcome)  # fmt: skip
        return bool(lines or early)

    # Sequences.

    def _park(self, sequence: int, parked: Parked, limits: Limits, outcome: Outcome) -> None:
        waiting = self.book.parked
        if sequence in waiting:
            outcome.findings.append(
                Finding(
                    "sequence-reused",
                    str(sequence),
                    getattr(parked.change, "quantity", 0),
                    f"{waiting[sequence].event_id} has the number {sequence} too; dropped",
                )
            )
            return
        if len(waiting) >= limits.parked and sequence != self.book.sequence + 1:
            raise Reject("too-many-parked")
        waiting[sequence] = parked
        if len(waiting) == 1:
            outcome.gap = self.book.sequence + 1

    def _go_on(self, missing: int, limits: Limits, outcome: Outcome) -> None:
        """Apply whatever of the parked has its turn; `missing` is what was waited for before."""
        book = self.book
        # A count up to a later number takes those before it with it, in their order.
        for number in sorted(number for number in book.parked if number <= book.sequence):
            self._apply(*_arguments(book.parked.pop(number)), limits, outcome)
        while book.sequence + 1 in book.parked:
            book.sequence += 1
            self._apply(*_arguments(book.parked.pop(book.sequence)), limits, outcome)
        if book.gap and book.sequence >= book.gap:
            outcome.filled, book.gap = book.gap, 0
        if not book.parked:
            outcome.gap = 0
        elif book.sequence + 1 != missing:
            outcome.gap = book.sequence + 1

    # Changes.

    def _apply(
        self,
        change: Change,
        event_id: str,
        event_type: str,
        time_ms: int,
        limits: Limits,
        outcome: Outcome,
    ) -> None:
        on_hand = self.on_hand
        before = Levels(
            on_hand,
            self.committed,
            self.reserved,
            self.incoming,
            self.damaged,
            self.quality_control,
            self.safety_stock,
            self.available,
        )
        note = _APPLY[type(change)](self, change, time_ms, event_id, limits, outcome) or ""
        self.available = available = (
            self.on_hand
            - self.committed
            - self.reserved
            - self.damaged
            - self.quality_control
            - self.safety_stock
        )
        self.oversold = -available if available < 0 else 0
        self.version += 1
        self.last_event = event_id
        if time_ms > self.updated_ms:
            self.updated_ms = time_ms
        if self.on_hand < 0 <= on_hand:
            text = f"{-self.on_hand} more left than ever came"
            outcome.findings.append(Finding("negative-on-hand", event_id, -self.on_hand, text))
        outcome.entries.append(
            Entry(change, event_id, event_type, time_ms, self.version, before, self.levels, note)
        )

    def _placed(self, change: c.Placed, time_ms: int, event_id: str, limits: Limits,
                outcome: Outcome) -> str | None:  # fmt: skip
        key = change.line
        line = self._line(key, limits)
        open_before = line.open
        if line.placed:
            text = f"{line.placed} were placed before"
            outcome.findings.append(Finding("placed-twice", key, change.quantity, text))
            note = "placed before; nothing changed"
        else:
            line.placed, line.since_ms = change.quantity, 0
            note = None
        self._keep(key, line, open_before, limits, outcome)
        if change.reservation is not None:
            self._end(change.reservation, "committed", time_ms, limits, outcome)
        return note

    def _cancelled(self, change: c.Cancelled, time_ms: int, event_id: str, limits: Limits,
                   outcome: Outcome) -> str | None:  # fmt: skip
        line = self._line(change.line, limits)
        open_before = line.open
        line.cancelled += change.quantity
        _wait(line, time_ms)
        self._keep(change.line, line, open_before, limits, outcome)
        return None

    def _shipped(self, change: c.Shipped, time_ms: int, event_id: str, limits: Limits,
                 outcome: Outcome) -> str | None:  # fmt: skip
        line = self._line(change.line, limits)
        open_before = line.open
        line.shipped += change.quantity
        _wait(line, time_ms)
        self._keep(change.line, line, open_before, limits, outcome)
        return self._move(-change.quantity, time_ms, limits)

    def _returned(self, change: c.Returned, time_ms: int, event_id: str, limits: Limits,
                  outcome: Outcome) -> str | None:  # fmt: skip
        line = self._line(change.line, limits)
        open_before = line.open
        line.returned += change.quantity
        _wait(line, time_ms)
        self._keep(change.line, line, open_before, limits, outcome)
        self._put(change.bucket, change.quantity, event_id, outcome)
        return self._move(change.quantity, time_ms, limits)

    def _received(self, change: c.Received, time_ms: int, event_id: str, limits: Limits,
                  outcome: Outcome) -> str | None:  # fmt: skip
        self.incoming -= change.from_incoming
        return self._move(change.quantity, time_ms, limits)

    def _expected(self, change: c.Expected | c.Transit, time_ms: int, event_id: str,
                  limits: Limits, outcome: Outcome) -> str | None:  # fmt: skip
        self.incoming += change.quantity
        return None

    def _dispatched(self, change: c.Dispatched, time_ms: int, event_id: str, limits: Limits,
                    outcome: Outcome) -> str | None:  # fmt: skip
        return self._move(-change.quantity, time_ms, limits)

    def _arrived(self, change: c.Arrived, time_ms: int, event_id: str, limits: Limits,
                 outcome: Outcome) -> str | None:  # fmt: skip
        self.incoming -= change.quantity
        return self._move(change.quantity, time_ms, limits)

    def _lost(self, change: c.Lost, time_ms: int, event_id: str, limits: Limits,
              outcome: Outcome) -> str | None:  # fmt: skip
        self.incoming -= change.quantity
        return None

    def _adjusted(self, change: c.Adjusted, time_ms: int, event_id: str, limits: Limits,
                  outcome: Outcome) -> str | None:  # fmt: skip
        self._put(change.bucket, change.quantity, event_id, outcome)
        return self._move(change.quantity, time_ms, limits)

    def _counted(self, change: c.Counted, time_ms: int, event_id: str, limits: Limits,
                 outcome: Outcome) -> str | None:  # fmt: skip
        book, as_of = self.book, change.as_of_ms
        if change.through is not None and change.through > book.sequence:
            book.sequence = change.through
        reason = None
        if book.counted_ms is not None and (as_of, event_id) < (book.counted_ms, book.counted_by):
            reason = f"count {book.counted_by} is of a later moment"
        elif book.folded_ms is not None and as_of < book.folded_ms:
            reason = "too many goods moved since that moment to bring it up to date"
        if reason is not None:
            outcome.findings.append(Finding("outdated-count", event_id, 0, reason))
            return f"outdated: {reason}; nothing changed"
        later = [move for move in book.moves if move[0] > as_of]
        expected = self.on_hand - sum([units for _, units in later])
        drift = change.quantity - expected
        self.on_hand += drift
        book.moves, book.counted_ms, book.counted_by = later, as_of, event_id
        if drift:
            text = f"{expected} were expected at that moment"
            outcome.findings.append(Finding("drift", event_id, drift, text))
        return None

    def _policy(self, change: c.PolicySet, time_ms: int, event_id: str, limits: Limits,
                outcome: Outcome) -> str | None:  # fmt: skip
        book = self.book
        if book.policy_ms is not None and (time_ms, event_id) < (book.policy_ms, book.policy_by):
            return f"policy {book.policy_by} is newer; nothing changed"
        self.safety_stock = change.safety_stock
        book.policy_ms, book.policy_by = time_ms, event_id
        book.low_stock, book.low_stock_rearm = change.low_stock, change.low_stock_rearm
        return None

    def _reserved(self, change: c.Reserved, time_ms: int, event_id: str, limits: Limits,
                  outcome: Outcome) -> str | None:  # fmt: skip
        book, key = self.book, change.reservation
        waiting = book.early.pop(key, None)
        if waiting is not None:
            self._note_end(key, waiting.ended, limits)
            return f"{waiting.ended} already"
        if key in book.reservations or key in book.ended:
            text = "a reservation of this id was there before"
            outcome.findings.append(Finding("reserved-twice", key, change.quantity, text))
            return "reserved before; nothing changed"
        self._make_room(limits)
        book.reservations[key] = Reservation(change.quantity, change.expires_ms)
        self.reserved += change.quantity
        outcome.expiries.append((key, change.expires_ms))
        return None

    def _released(self, change: c.Released, time_ms: int, event_id: str, limits: Limits,
                  outcome: Outcome) -> str | None:  # fmt: skip
        return self._end(change.reservation, "released", time_ms, limits, outcome)

    def _committed(self, change: c.Committed, time_ms: int, event_id: str, limits: Limits,
                   outcome: Outcome) -> str | None:  # fmt: skip
        note = self._end(change.reservation, "committed", time_ms, limits, outcome)
        line = self._line(change.line, limits)
        open_before = line.open
        line.promised += change.quantity
        _wait(line, time_ms)
        self._keep(change.line, line, open_before, limits, outcome)
        return note

    def _expired(self, change: c.Expired, time_ms: int, event_id: str, limits: Limits,
                 outcome: Outcome) -> str | None:  # fmt: skip
        return self._end(change.reservation, "expired", time_ms, limits, outcome)

    def _forgotten(self, change: c.Forgotten, time_ms: int, event_id: str, limits: Limits,
                   outcome: Outcome) -> str | None:  # fmt: skip
        line = self.book.lines.pop(change.line)
        self.committed -= line.open
        text = f"{line.shipped} shipped, {line.cancelled} cancelled, {line.promised} promised"
        outcome.findings.append(
            Finding("order-forgotten", change.line, line.shipped, f"{text}, and no order came")
        )
        return None

    # Parts of a change.

    def _line(self, key: str, limits: Limits) -> Line:
        """Return what is known of a line, or a new one."""
        book = self.book
        line = book.lines.get(key) or book.settled.pop(key, None)
        if line is None:
            self._make_room(limits)
            return Line()
        if line.may_contradict:
            book.over_closed -= line.over_closed
            book.over_returned -= line.over_returned
        return line

    def _keep(
        self, key: str, line: Line, open_before: int, limits: Limits, outcome: Outcome
    ) -> None:
        """Put a line back, whatever it has become."""
        book = self.book
        self.committed += line.open - open_before
        if line.is_needed:
            book.lines[key] = line
            if not line.placed:
                outcome.waits = True
        else:
            book.lines.pop(key, None)
            settled = book.settled
            settled[key] = line
            while len(settled) > limits.settled_lines:
                del settled[next(iter(settled))]
        if line.may_contradict:
            self._tell_contradictions(key, line, outcome)

    def _tell_contradictions(self, key: str, line: Line, outcome: Outcome) -> None:
        book = self.book
        if over := line.over_closed:
            book.over_closed += over
            text = f"{line.placed} placed, {line.cancelled} cancelled, {line.shipped} shipped"
            outcome.findings.append(Finding("over-closed", key, over, text))
        if over := line.over_returned:
            book.over_returned += over
            text = f"{line.shipped} shipped, {line.returned} returned"
            outcome.findings.append(Finding("over-returned", key, over, text))

    def _make_room(self, limits: Limits) -> None:
        book = self.book
        if len(book.lines) + len(book.reservations) + len(book.early) >= limits.open_lines:
            raise Reject("too-many-open-lines")

    def _move(self, units: int, time_ms: int, limits: Limits) -> str | None:
        """Add goods to on_hand, unless a count of a later moment has them already."""
        book = self.book
        if book.counted_ms is not None and time_ms <= book.counted_ms:
            return f"in count {book.counted_by}"
        self.on_hand += units
        if book.folded_ms is None or time_ms > book.folded_ms:
            moves = book.moves
            if not moves or moves[-1][0] <= time_ms:
                moves.append((time_ms, units))
            else:
                insort(moves, (time_ms, units))
            if len(moves) > limits.moves:
                book.folded_ms = oldest = moves[0][0]
                # All of one moment go together: a count is before or after the whole of it.
                kept = next((at for at, move in enumerate(moves) if move[0] > oldest), len(moves))
                del moves[:kept]
        return None

    def _put(self, bucket: c.Bucket, units: int, event_id: str, outcome: Outcome) -> None:
        """Add goods to those that are on hand and not available."""
        if bucket == "available":
            return
        short = f"{bucket}_short"
        total = getattr(self, bucket) - getattr(self.book, short) + units
        setattr(self, bucket, max(total, 0))
        setattr(self.book, short, max(-total, 0))
        if total < 0 and units < 0:
            kind = "negative-damaged" if bucket == "damaged" else "negative-quality-control"
            text = f"{-total} more were taken out than had been put in; shown as 0"
            outcome.findings.append(Finding(kind, event_id, -total, text))

    def _end(
        self, key: str, ended: Ended, time_ms: int, limits: Limits, outcome: Outcome
    ) -> str | None:
        """Bring a reservation into a terminal state, unless it is in one."""
        book = self.book
        held = book.reservations.pop(key, None)
        if held is not None:
            self.reserved -= held.quantity
            outcome.ended.append(key)
            self._note_end(key, ended, limits)
            return None
        before = book.ended.get(key)
        if before is None and key in book.early:
            before = book.early[key].ended
        if before is None:
            self._make_room(limits)
            book.early[key] = Waiting(ended, time_ms)
            outcome.waits = True
            return "not created yet"
        # Its own order and its own commit say the same of it, in either order.
        if not (before == ended == "committed"):
            text = f"{ended} after it was {before}"
            outcome.findings.append(Finding("reservation-ended", key, 0, text))
        return f"{before} before"

    def _note_end(self, key: str, ended: Ended, limits: Limits) -> None:
        book = self.book
        book.ended[key] = ended
        while len(book.ended) > limits.settled_lines:
            del book.ended[next(iter(book.ended))]


def _wait(line: Line, time_ms: int) -> None:
    """Note since when a line waits for its order."""
    if not line.placed and (not line.since_ms or time_ms < line.since_ms):
        line.since_ms = time_ms


def _tell_waiting(
    kind: str, text: str, since: dict[str, int], before_ms: float, outcome: Outcome
) -> None:
    """Tell how many wait since before a moment, and which for longest."""
    long = {key: at for key, at in since.items() if at <= before_ms}
    if long:
        oldest = min(long, key=lambda key: long[key])
        outcome.findings.append(Finding(kind, oldest, len(long), f"{len(long)} {text}"))


def _arguments(parked: Parked) -> tuple[Change, str, str, int]:
    return parked.change, parked.event_id, parked.event_type, parked.time_ms


_APPLY: Final[dict[type, Callable[..., str | None]]] = {
    c.Placed: Stock._placed,
    c.Cancelled: Stock._cancelled,
    c.Shipped: Stock._shipped,
    c.Returned: Stock._returned,
    c.Received: Stock._received,
    c.Expected: Stock._expected,
    c.Transit: Stock._expected,
    c.Dispatched: Stock._dispatched,
    c.Arrived: Stock._arrived,
    c.Lost: Stock._lost,
    c.Adjusted: Stock._adjusted,
    c.Counted: Stock._counted,
    c.PolicySet: Stock._policy,
    c.Reserved: Stock._reserved,
    c.Released: Stock._released,
    c.Committed: Stock._committed,
    c.Expired: Stock._expired,
    c.Forgotten: Stock._forgotten,
}
