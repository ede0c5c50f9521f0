"""What a stock remembers beside its levels, each part bounded."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamproc import Reject
from streamproc_inventory.changes import Change
from streamproc_inventory.register import enter, look_up, strike, without_oldest

__all__ = ["Book", "Ended", "Limits", "Line", "Parked", "Reservation", "Waiting"]

Ended = Literal["committed", "released", "expired"]
"""The terminal states of a reservation."""


class Limits(msgspec.Struct, frozen=True):
    """How much a stock may remember.

    Attributes:
        open_lines: lines and reservations that are open, or wait for their order or creation.
        settled_lines: lines that are done, and reservations that have ended; oldest go first.
        moves: latest moves of goods, by which a count of an earlier moment is brought up to date.
        parked: events that wait for earlier ones of their sequence.
    """

    open_lines: int = 100_000
    settled_lines: int = 100
    moves: int = 100
    parked: int = 1_000


class Line(msgspec.Struct, array_like=True, gc=False):
    """What is known of one order line: units of it, by what became of them.

    Attributes:
        promised: by a committed reservation; counts until the order itself has arrived.
        since_ms: time of the first event about it, while its order has not arrived.
    """

    placed: int = 0
    cancelled: int = 0
    shipped: int = 0
    returned: int = 0
    promised: int = 0
    since_ms: int = 0

    @property
    def short(self) -> int | Line:
        """The line while it is open: the units placed, if nothing else is known of it."""
        if self.cancelled or self.shipped or self.returned or self.promised or self.since_ms:
            return self
        return self.placed or self

    @property
    def settled(self) -> str:
        """The line when it is settled: the units, if so many were placed and shipped; else all."""
        if self.placed == self.shipped and not (self.cancelled or self.returned or self.promised):
            return str(self.placed)
        return ",".join([str(units) for units in msgspec.structs.astuple(self)])

    @staticmethod
    def of_settled(text: str) -> Line:
        """Return the line that `settled` was."""
        units = [int(each) for each in text.split(",")]
        return Line(*units) if len(units) > 1 else Line(units[0], shipped=units[0])

    @property
    def open(self) -> int:
        """The units still promised."""
        units = (self.placed or self.promised) - self.cancelled - self.shipped
        return units if units > 0 else 0

    @property
    def over_closed(self) -> int:
        """Units closed beyond what was placed; 0 as long as the order has not arrived."""
        return max(self.cancelled + self.shipped - self.placed, 0) if self.placed else 0

    @property
    def over_returned(self) -> int:
        """Units returned beyond what was shipped; 0 as long as the shipment may still come."""
        if not self.returned or not (self.shipped or self.is_settled):
            return 0
        return max(self.returned - self.shipped, 0)

    @property
    def may_contradict(self) -> bool:
        """Whether it is worth a look if more was closed or returned than can be; seldom."""
        return self.returned > 0 or self.cancelled + self.shipped > self.placed

    @property
    def is_settled(self) -> bool:
        """Whether the order arrived and nothing of the line is left to do."""
        return self.placed > 0 and self.placed <= self.cancelled + self.shipped

    @property
    def is_needed(self) -> bool:
        """Whether forgetting the line could make a level wrong.

        It could while units are promised, and while something is known of it that must be taken
        off its order when that arrives. Returns change no promise.
        """
        if self.placed:
            return self.placed > self.cancelled + self.shipped
        return bool(self.cancelled or self.shipped or self.promised)


class Reservation(msgspec.Struct, array_like=True, gc=False):
    """Units held until a moment."""

    quantity: int
    expires_ms: int


class Waiting(msgspec.Struct, array_like=True, gc=False):
    """The end of a reservation whose creation has not arrived."""

    ended: Ended
    since_ms: int


class Parked(msgspec.Struct, array_like=True):
    """An event that waits for earlier ones of its sequence."""

    change: Change
    event_id: str
    event_type: str
    time_ms: int


class Book(msgspec.Struct, omit_defaults=True):
    """A stock's memory.

    Attributes:
        lines: order lines that are needed (see `Line.is_needed`), by `line_key`. A number stands
            for a line of which so many were placed and nothing else is known.
        settled, settled_kept: lines that are not, in a `register` (see `Line.settled`), and their
            number.
        reservations: live ones, by id.
        early: ends whose reservation has not been created yet.
        ended, ended_kept: the terminal states of reservations, in a `register`, and their number.
        moves, moves_kept: those of goods since the last count (see `moves`), and their number.
        folded_ms: moves up to here are not in `moves` any more.
        counted_ms, counted_by: moment and id of the count that on_hand rests on.
        sequence: number of the last event applied in the stock's sequence.
        parked: by their number, those beyond it.
        gap: number of the gap's first event that was told as missing; 0 for none.
        damaged_short, quality_control_short: units taken out of these beyond what was in them:
            the levels show 0 while it lasts.
        reviewed_ms: when `lines` and `early` will be looked through for what waits too long; None
            if nothing waits.
        over_closed, over_returned: units by which order lines contradict themselves.
        policy_ms, policy_by: time and id of the policy that holds.
        low_stock, low_stock_rearm: its thresholds; None leaves them to the processor.
        armed: whether available has been above the threshold since the last `StockLow`.
    """

    lines: dict[str, int | Line] = {}
    settled: str = ""
    settled_kept: int = 0
    reservations: dict[str, Reservation] = {}
    early: dict[str, Waiting] = {}
    ended: str = ""
    ended_kept: int = 0
    moves: str = ""
    moves_kept: int = 0
    folded_ms: int | None = None
    counted_ms: int | None = None
    counted_by: str = ""
    sequence: int = 0
    parked: dict[int, Parked] = {}
    gap: int = 0
    reviewed_ms: int | None = None
    damaged_short: int = 0
    quality_control_short: int = 0
    over_closed: int = 0
    over_returned: int = 0
    policy_ms: int | None = None
    policy_by: str = ""
    low_stock: int | None = None
    low_stock_rearm: int | None = None
    armed: bool = False

    def known_line(self, key: str) -> Line | None:
        """Return what is known of an order line; None if nothing is."""
        known = self.lines.get(key)
        if known is not None:
            return Line(known) if isinstance(known, int) else known
        settled = look_up(self.settled, key)
        return None if settled is None else Line.of_settled(settled)

    def open_units(self, key: str) -> int:
        """Return how many units of an order line are still promised."""
        line = self.known_line(key)
        return 0 if line is None else line.open

    def waiting_lines(self) -> dict[str, Line]:
        """Return the lines whose order has not arrived."""
        return {
            key: line
            for key, line in self.lines.items()
            if not isinstance(line, int) and not line.placed
        }

    def settle(self, key: str, line: str, limits: Limits) -> None:
        """Remember a line that is not needed any more, as the most recent one."""
        self.settled = enter(self.settled, key, line)
        self.settled_kept += 1
        while self.settled_kept > limits.settled_lines:
            self.settled = without_oldest(self.settled)
            self.settled_kept -= 1

    def unsettle(self, key: str) -> None:
        """Forget a line that may be settled."""
        rest = strike(self.settled, key)
        if len(rest) < len(self.settled):
            self.settled = rest
            self.settled_kept -= 1

    def note_end(self, key: str, ended: Ended, limits: Limits) -> None:
        """Remember the terminal state of a reservation."""
        self.ended = enter(self.ended, key, ended)
        self.ended_kept += 1
        while self.ended_kept > limits.settled_lines:
            self.ended = without_oldest(self.ended)
            self.ended_kept -= 1

    def make_room(self, limits: Limits) -> None:
        """Make sure that one more line or reservation may be remembered.

        Raises:
            Reject: there are too many already.
        """
        if len(self.lines) + len(self.reservations) + len(self.early) >= limits.open_lines:
            raise Reject("too-many-open-lines")
