"""What is remembered of a card: its payments in packed arrays, where it was, its labels."""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct
from typing import Final, Literal

import msgspec

__all__ = ["BUCKETED_ROWS", "EXACT_ROWS", "KEPT_US", "RETENTION_US", "Card", "Label", "Payments"]

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US

RETENTION_US: Final = 30 * DAY_US
"""The longest window, in microseconds as all times here."""

KEPT_US: Final = RETENTION_US + DAY_US
"""What is kept: a payment that comes up to a day late still finds its whole windows."""

EXACT_ROWS: Final = 2_000
"""Payments of a card that are held one by one; beyond, old ones are merged."""

BUCKETED_ROWS: Final = 512
"""The same in bucketed mode: more than a month takes in buckets, so that merging is seldom."""

_RECENT_ROWS: Final = 64
# Rows older than the first are merged by the second.
_TIERS: Final = (
    (7 * DAY_US, 6 * HOUR_US),
    (DAY_US, HOUR_US),
    (0, HOUR_US // 4),
)
MAX_LABELS: Final = 256

_ONE: Final = b"\1\0\0\0"
# Reads the number that begins at a byte.
_number_at: Final = Struct("<q").unpack_from
_packed_number: Final = Struct("<q").pack


class Payments(msgspec.Struct, omit_defaults=True):
    """Payments by event time; payments with equal times stay in the order they came in.

    Columns are packed arrays of equal length: 21 bytes a payment. Once there are more than a limit
    of them, those but the newest 64 are merged into buckets of 15 minutes, of an hour after a day,
    of six hours after a week. A row then stands at its latest payment's time, so that a window
    counts its oldest bucket whole. At most 64 + 96 + 144 + 96 rows and one for each further
    currency in a bucket are left.

    Attributes:
        times: microseconds since the epoch, ascending, 8 bytes each.
        amounts: minor units, or their sum; 8 bytes each.
        currencies: index into `codes`, 1 byte each.
        terminals: 4-byte digests of the terminals.
        codes: the currencies of the card, in the order of their first payment.
        counts: 4 bytes each, empty while nothing was merged; likewise `least` and `most`, 8 bytes.
    """

    times: bytearray = msgspec.field(default_factory=bytearray)
    amounts: bytearray = msgspec.field(default_factory=bytearray)
    currencies: bytearray = msgspec.field(default_factory=bytearray)
    terminals: bytearray = msgspec.field(default_factory=bytearray)
    codes: list[str] = []
    counts: bytearray = msgspec.field(default_factory=bytearray)
    least: bytearray = msgspec.field(default_factory=bytearray)
    most: bytearray = msgspec.field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.currencies)

    def add(self, time_us: int, amount: int, currency: str, terminal: bytes, limit: int) -> None:
        """Take a payment in.

        Args:
            time_us: event time.
            amount: minor units.
            currency: ISO 4217.
            terminal: 4 bytes that stand for it.
            limit: rows beyond which old ones are merged.
        """
        codes, currencies, times = self.codes, self.currencies, self.times
        if currency not in codes:
            codes.append(currency)
        code, held = codes.index(currency), len(currencies)
        packed_time, packed_amount = _packed_number(time_us), _packed_number(amount)
        if not held or _number_at(times, 8 * held - 8)[0] <= time_us:
            if held >= 8 and _number_at(times, held // 4 * 8)[0] <= time_us - KEPT_US:
                self._forget(time_us)
            times += packed_time
            self.amounts += packed_amount
            currencies.append(code)
            self.terminals += terminal
            if self.counts:
                self.counts += _ONE
                self.least += packed_amount
                self.most += packed_amount
        else:
            self._insert(time_us, packed_amount, code, terminal)
        if held >= limit:
            self._merge()

    def _insert(self, time_us: int, packed_amount: bytes, code: int, terminal: bytes) -> None:
        """Take a payment in that is late."""
        at = bisect_right(memoryview(self.times).cast("q"), time_us)
        self.times[8 * at : 8 * at] = time_us.to_bytes(8, "little")
        self.amounts[8 * at : 8 * at] = packed_amount
        self.currencies.insert(at, code)
        self.terminals[4 * at : 4 * at] = terminal
        if self.counts:
            self.counts[4 * at : 4 * at] = _ONE
            self.least[8 * at : 8 * at] = packed_amount
            self.most[8 * at : 8 * at] = packed_amount

    def _forget(self, now_us: int) -> None:
        """Drop what no window reaches any more; called when that is a quarter of the rows."""
        gone = bisect_right(memoryview(self.times).cast("q"), now_us - KEPT_US)
        del self.times[: 8 * gone], self.amounts[: 8 * gone]
        del self.currencies[:gone], self.terminals[: 4 * gone]
        if self.counts:
            del self.counts[: 4 * gone], self.least[: 8 * gone], self.most[: 8 * gone]

    def _merge(self) -> None:
        """Merge neighbours that fall into one bucket and are of one currency."""
        held = len(self.currencies)
        times, amounts = memoryview(self.times).cast("q"), memoryview(self.amounts).cast("q")
        counts = memoryview(self.counts).cast("I") if self.counts else [1] * held
        least = memoryview(self.least).cast("q") if self.counts else amounts
        most = memoryview(self.most).cast("q") if self.counts else amounts
        newest = times[held - 1]
        merged: dict[tuple[int, int, int], list[int]] = {}
        for at in range(held):
            time, currency = times[at], self.currencies[at]
            width = 1
            if at < held - _RECENT_ROWS:
                width = next(width for age, width in _TIERS if newest - time >= age)
            # A payment that is held by itself has its place for its key.
            key = (width, at if width == 1 else time // width, currency)
            row = merged.get(key)
            if row is None:
                merged[key] = [time, amounts[at], at, counts[at], least[at], most[at]]
            else:
                row[0], row[1], row[3] = time, row[1] + amounts[at], row[3] + counts[at]
                row[4], row[5] = min(row[4], least[at]), max(row[5], most[at])
        rows = sorted(merged.values(), key=lambda row: row[0])
        codes = bytearray(self.currencies[row[2]] for row in rows)
        terminals = b"".join([self.terminals[4 * row[2] : 4 * row[2] + 4] for row in rows])
        del times, amounts, counts, least, most  # a bytearray that is looked at cannot change
        self.times = _packed([row[0] for row in rows], 8)
        self.amounts = _packed([row[1] for row in rows], 8)
        self.currencies, self.terminals = codes, bytearray(terminals)
        self.counts = _packed([row[3] for row in rows], 4)
        self.least = _packed([row[4] for row in rows], 8)
        self.most = _packed([row[5] for row in rows], 8)


class Label(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a payment since `at_us`; the latest word counts, whenever it arrives."""

    state: Literal["fraud", "retracted"]
    at_us: int
    payment_us: int


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where the card was at a time."""

    time_us: int
    lat: float
    lon: float


class Card(msgspec.Struct, omit_defaults=True):
    """A card's state; its size is bounded whatever the card does.

    Attributes:
        payments: of the last 31 days.
        places: where it was last, by event time; at most 16.
        labels: by payment; at most 256, the oldest forgotten first.
    """

    payments: Payments = msgspec.field(default_factory=Payments)
    places: list[Place] = []
    labels: dict[str, Label] = {}

    def label(self, payment_id: str, label: Label) -> int:
        """Note a label; return by how much the frauds at the payment's terminal change."""
        before = self.labels.get(payment_id)
        if before is not None and before.at_us > label.at_us:
            return 0
        self.labels[payment_id] = label
        while len(self.labels) > MAX_LABELS:
            del self.labels[min(self.labels, key=lambda payment: self.labels[payment].payment_us)]
        was_fraud = before is not None and before.state == "fraud"
        return (label.state == "fraud") - was_fraud


def _packed(values: list[int], size: int) -> bytearray:
    return bytearray(b"".join([value.to_bytes(size, "little") for value in values]))
