"""The stock of one item at one location, as a function of the set of events about it."""

from __future__ import annotations

import msgspec

__all__ = ["Line", "Stock", "line_key"]


class Line(msgspec.Struct, array_like=True):
    """What is known of one order line: quantities ever placed, cancelled and shipped."""

    placed: int = 0
    cancelled: int = 0
    shipped: int = 0

    @property
    def open(self) -> int:
        """The quantity still promised."""
        return max(self.placed - self.cancelled - self.shipped, 0)

    @property
    def excess(self) -> int:
        """The quantity closed beyond what was placed; 0 as long as the order has not arrived."""
        return max(self.cancelled + self.shipped - self.placed, 0) if self.placed else 0

    @property
    def is_settled(self) -> bool:
        """Whether the order arrived and nothing of the line is left to do."""
        return self.placed > 0 and self.open == 0


class Stock(msgspec.Struct):
    """Stock of one item at one location.

    Invariants: `committed` is the sum of the lines' open quantities, `available` is
    `on_hand - committed`, `oversold` is `max(-available, 0)`; all four depend on the set of
    events applied, not on their order.

    Attributes:
        lines: order lines that are open, or whose order has not arrived yet, by `line_key`.
        settled: the most recently settled ones, to notice when one is closed twice.
    """

    on_hand: int = 0
    committed: int = 0
    available: int = 0
    oversold: int = 0
    lines: dict[str, Line] = {}
    settled: dict[str, Line] = {}

    def receive(self, quantity: int) -> None:
        """Add goods."""
        self.on_hand += quantity
        self._balance()

    def apply(self, key: str, change: Line, keep: int) -> Line:
        """Add a change to an order line; return what the line is now.

        A settled line counts nothing in any sum: forgetting it, once more than `keep` are, leaves
        every quantity right in any order of events. What is lost is only that a further
        cancellation or shipment of it would be noticed as excess; it looks like one that came
        before its order, for which nothing is promised either.
        """
        line = self.lines.pop(key, None) or self.settled.pop(key, None) or Line()
        open_before = line.open
        line.placed += change.placed
        line.cancelled += change.cancelled
        line.shipped += change.shipped
        self.on_hand -= change.shipped
        self.committed += line.open - open_before
        self._balance()
        if line.is_settled:
            self.settled[key] = line
            while len(self.settled) > keep:
                del self.settled[next(iter(self.settled))]
        else:
            self.lines[key] = line
        return line

    def knows(self, key: str) -> bool:
        """Whether the line is among those held."""
        return key in self.lines or key in self.settled

    def _balance(self) -> None:
        self.available = self.on_hand - self.committed
        self.oversold = max(-self.available, 0)


def line_key(order_id: str, line_id: str) -> str:
    """Return ``order/line``, where no order's slash can be mistaken for the one between them."""
    return f"{order_id.replace('%', '%25').replace('/', '%2F')}/{line_id}"
