"""What cards share: a terminal's, customer's, device's or address's counts, by buckets of time.

They are commutative counters, since payments of many shards meet there: each commit adds what its
events add, and none waits for another. See `docs/fraud.md` for what several shards see of each
other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, Protocol

__all__ = [
    "CARDS",
    "FRAUDS",
    "PAYMENTS",
    "Counters",
    "Grid",
    "MemoryCounters",
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

    def __contains__(self, name: str) -> bool:
        """Whether a counter has any buckets."""
        ...

    def buckets(self, name: str) -> Mapping[int, int | float]:
        """Return a counter's buckets that are not 0."""
        ...

    def totals(self, name: str, *, firsts: Sequence[int], last: int) -> Sequence[int | float]:
        """Return the sum of a counter's buckets from each of `firsts` to `last`, both included."""
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

    def __contains__(self, name: str) -> bool:
        """See `Counters.__contains__`."""
        return bool(self._names.get(name))

    def buckets(self, name: str) -> Mapping[int, int | float]:
        """See `Counters.buckets`."""
        return self._names.get(name, {})

    def totals(self, name: str, *, firsts: Sequence[int], last: int) -> Sequence[int]:
        """See `Counters.totals`."""
        running = self._running.get(name)
        if running is None:
            held = self._names.get(name)
            if not held:
                return [0] * len(firsts)
            buckets = sorted(held)
            sums = list(accumulate([held[bucket] for bucket in buckets], initial=0))
            running = self._running[name] = (buckets, sums)
        buckets, sums = running
        high = bisect_right(buckets, last)
        return [sums[high] - sums[bisect_left(buckets, first, 0, high)] for first in firsts]

    def forget(self, name: str, *, before: int) -> None:
        """See `Counters.forget`."""
        buckets = self._names.get(name, {})
        gone = [bucket for bucket in buckets if bucket < before]
        for bucket in gone:
            del buckets[bucket]
        if gone:
            self._running.pop(name, None)


class Grid:
    """How what cards share is divided by time: into buckets of `width_us` microseconds.

    A window counts the bucket that its older end lies in whole; with a width of 1 it is exact.

    Attributes:
        width_us: microseconds of a bucket.
    """

    __slots__ = ("width_us",)

    def __init__(self, width_us: int) -> None:
        self.width_us = width_us

    def add(self, counters: Counters, name: str, time_us: int, number: int = 1) -> None:
        """Add to a counter at a time."""
        counters.add(name, number, bucket=time_us // self.width_us)

    def add_value(self, counters: Counters, name: str, time_us: int, value: int) -> None:
        """Count a value from 0 to 2**48 at a time.

        The value is part of the bucket's number, below its time: so buckets stay in the order of
        time, and which values there were can be read off them.
        """
        bucket = (time_us // self.width_us << _VALUE_BITS) | value
        counters.add(name, 1, bucket=bucket)

    def totals(
        self, counters: Counters, name: str, windows_us: Sequence[int], end_us: int
    ) -> Sequence[int | float]:
        """Return the sum over each (end - window, end], with the whole bucket of the older end."""
        width = self.width_us
        if width == 1:
            firsts = [end_us - window + 1 for window in windows_us]
            return counters.totals(name, firsts=firsts, last=end_us)
        firsts = [(end_us - window) // width for window in windows_us]
        return counters.totals(name, firsts=firsts, last=end_us // width)

    def values(
        self, counters: Counters, name: str, start_us: int, end_us: int
    ) -> list[tuple[int, int]]:
        """Return the values of (start, end], each with how often it was counted at once."""
        width = self.width_us
        first = start_us + 1 if width == 1 else start_us // width
        # A value adds to its bucket's number less than one step of time does.
        low, high = first << _VALUE_BITS, (end_us // width + 1) << _VALUE_BITS
        return [
            (bucket & _VALUE_MASK, int(number))
            for bucket, number in counters.buckets(name).items()
            if low <= bucket < high
        ]

    def forget_before(self, counters: Counters, before_us: int, names: Iterable[str]) -> None:
        """Drop the buckets that no window reaches any more."""
        before = before_us // self.width_us
        for name in names:
            has_values = name not in (PAYMENTS, FRAUDS)
            counters.forget(name, before=before << _VALUE_BITS if has_values else before)


def amounts_name(currency: str) -> str:
    """Return the name of the counter of amounts in a currency."""
    return f"a:{currency}"
