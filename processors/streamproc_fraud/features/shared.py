"""What cards share: a terminal's, customer's, device's or address's counts, by buckets of time.

They are commutative counters, since payments of many shards meet there: each commit adds what its
events add, and none waits for another. See `docs/fraud.md` for what several shards see of each
other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, Protocol

__all__ = [
    "CARDS",
    "FRAUDS",
    "PAYMENTS",
    "Counters",
    "MemoryCounters",
    "Shared",
    "amounts_name",
]

PAYMENTS: Final = "n"
FRAUDS: Final = "f"
CARDS: Final = "c"
_VALUE_BITS: Final = 48
_VALUE_MASK: Final = (1 << _VALUE_BITS) - 1


class Counters(Protocol):
    """The counters of one key, by name and bucket."""

    def add(self, name: str, number: int = 1, *, bucket: int | None = None) -> None:
        """Add to a bucket of a counter."""
        ...

    def buckets(self, name: str) -> Mapping[int, int | float]:
        """Return a counter's buckets that are not 0."""
        ...

    def total(self, name: str, *, first: int, last: int) -> int | float:
        """Return the sum of a counter's buckets from `first` to `last`, both included."""
        ...

    def forget(self, name: str, *, before: int) -> None:
        """Drop the buckets before one."""
        ...


class MemoryCounters:
    """Counters in this process, for replays beside a stream."""

    def __init__(self) -> None:
        self._names: dict[str, dict[int, int]] = {}
        # Buckets in order and the sums before each and after the last, of those asked for a total.
        self._running: dict[str, tuple[list[int], list[int]]] = {}

    def add(self, name: str, number: int = 1, *, bucket: int | None = None) -> None:
        """See `Counters.add`."""
        assert bucket is not None, "only buckets are used here"
        buckets = self._names.setdefault(name, {})
        buckets[bucket] = buckets.get(bucket, 0) + number
        running = self._running.get(name)
        if running is None:
            return
        if bucket > running[0][-1]:
            running[0].append(bucket)
            running[1].append(running[1][-1] + number)
        else:
            del self._running[name]

    def buckets(self, name: str) -> Mapping[int, int | float]:
        """See `Counters.buckets`."""
        return self._names.get(name, {})

    def total(self, name: str, *, first: int, last: int) -> int:
        """See `Counters.total`."""
        running = self._running.get(name)
        if running is None:
            held = self._names.get(name)
            if not held:
                return 0
            buckets = sorted(held)
            sums = list(accumulate([held[bucket] for bucket in buckets], initial=0))
            running = self._running[name] = (buckets, sums)
        low, high = bisect_left(running[0], first), bisect_right(running[0], last)
        return running[1][high] - running[1][low] if low < high else 0

    def forget(self, name: str, *, before: int) -> None:
        """See `Counters.forget`."""
        buckets = self._names.get(name, {})
        gone = [bucket for bucket in buckets if bucket < before]
        for bucket in gone:
            del buckets[bucket]
        if gone:
            self._running.pop(name, None)


class Shared:
    """One key's counters as sliding windows over buckets of `width_us` microseconds.

    A window counts the bucket that its older end lies in whole; with a width of 1 it is exact.
    """

    __slots__ = ("_counters", "_width_us")

    def __init__(self, counters: Counters, width_us: int) -> None:
        self._counters = counters
        self._width_us = width_us

    def add(self, name: str, time_us: int, number: int = 1) -> None:
        """Add to a counter at a time."""
        self._counters.add(name, number, bucket=time_us // self._width_us)

    def add_value(self, name: str, time_us: int, value: int) -> None:
        """Count a value from 0 to 2**48 at a time.

        The value is part of the bucket's number, below its time: so buckets stay in the order of
        time, and which values there were can be read off them.
        """
        bucket = (time_us // self._width_us << _VALUE_BITS) | value
        self._counters.add(name, 1, bucket=bucket)

    def total(self, name: str, start_us: int, end_us: int) -> float:
        """Return the sum over (start, end], with the whole bucket of the older end."""
        width = self._width_us
        if width == 1:
            return self._counters.total(name, first=start_us + 1, last=end_us)
        return self._counters.total(name, first=start_us // width, last=end_us // width)

    def values(self, name: str, start_us: int, end_us: int) -> list[tuple[int, int]]:
        """Return the values of (start, end], each with how often it was counted at once."""
        after, last = self._bounds(start_us, end_us)
        # A value adds to its bucket's number less than one step of time does.
        first, end = (after + 1) << _VALUE_BITS, (last + 1) << _VALUE_BITS
        return [
            (bucket & _VALUE_MASK, int(number))
            for bucket, number in self._counters.buckets(name).items()
            if first <= bucket < end
        ]

    def forget_before(self, before_us: int, names: Iterable[str]) -> None:
        """Drop the buckets that no window reaches any more."""
        before = before_us // self._width_us
        for name in names:
            has_values = name not in (PAYMENTS, FRAUDS)
            self._counters.forget(name, before=before << _VALUE_BITS if has_values else before)

    def _bounds(self, start_us: int, end_us: int) -> tuple[int, int]:
        """Return the bucket before the first and the last of a window."""
        width = self._width_us
        if width == 1:
            return start_us, end_us
        return start_us // width - 1, end_us // width


def amounts_name(currency: str) -> str:
    """Return the name of the counter of amounts in a currency."""
    return f"a:{currency}"
