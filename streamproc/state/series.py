"""A counter's buckets in order, so that the sum of any range is a difference of two."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from streamproc.windows.numbers import Number

__all__ = ["Series"]


class Series:
    """Numbers by bucket, at least one of them.

    What comes in order, as buckets of time mostly do, costs the same however many there are; what
    comes late costs as much as there is after it.

    Attributes:
        buckets: ascending, each once.
        numbers: of the same buckets.
    """

    __slots__ = ("_sums", "buckets", "numbers")

    def __init__(self, buckets: list[int], numbers: list[Number]) -> None:
        self.buckets = buckets
        self.numbers = numbers
        # The sums before each of the first buckets, as far as a range has asked for them. None
        # where numbers are floats, which are added up each time: a difference would be another.
        self._sums: list[Number] | None = [0]

    def copy(self) -> Series:
        """Return one that changes independently."""
        return Series(self.buckets.copy(), self.numbers.copy())

    def number(self, bucket: int) -> Number:
        """Return a bucket's number; 0 for one that is not there."""
        buckets = self.buckets
        if bucket > buckets[-1]:
            return 0
        at = bisect_left(buckets, bucket)
        return self.numbers[at] if buckets[at] == bucket else 0

    def add(self, bucket: int, number: Number) -> bool:
        """Add to a bucket; return whether it is a new one."""
        buckets, numbers = self.buckets, self.numbers
        if bucket > buckets[-1]:
            buckets.append(bucket)
            numbers.append(number)
            return True
        at = bisect_left(buckets, bucket)
        is_new = buckets[at] != bucket
        if is_new:
            buckets.insert(at, bucket)
            numbers.insert(at, number)
        else:
            numbers[at] += number
        self._unsum(at)
        return is_new

    def take(self, other: Series) -> int:
        """Add all of `other`; return how many buckets are new."""
        if other.buckets[0] > self.buckets[-1]:
            self.buckets += other.buckets
            self.numbers += other.numbers
            return len(other.buckets)
        pairs = zip(other.buckets, other.numbers, strict=True)
        return sum([self.add(bucket, number) for bucket, number in pairs])

    def drop(self, gone: set[int]) -> int:
        """Drop buckets; return how many there were. Whoever drops the last drops the series."""
        buckets, held = self.buckets, len(self.buckets)
        end = bisect_right(buckets, max(gone))
        if gone.issuperset(buckets[:end]):  # the oldest, as when windows move on
            del buckets[:end], self.numbers[:end]
            if self._sums is not None:
                # Differences stay the same, whatever the first is.
                self._sums = self._sums[end:] or [0]
            return end
        kept = [at for at in range(held) if buckets[at] not in gone]
        self.buckets = [buckets[at] for at in kept]
        self.numbers = [self.numbers[at] for at in kept]
        self._unsum(0)
        return held - len(kept)

    def totals(self, firsts: Sequence[int], last: int) -> list[Number]:
        """Return the sum from each of `firsts` to `last`, both included."""
        buckets = self.buckets
        end = bisect_right(buckets, last)
        if not end:
            return [0] * len(firsts)
        sums = self._sums
        if sums is not None and len(sums) <= end:
            sums = self._summed()
        if sums is None:
            return [sum(self.numbers[bisect_left(buckets, each, 0, end) : end]) for each in firsts]
        upper = sums[end]
        return [upper - sums[bisect_left(buckets, each, 0, end)] for each in firsts]

    def _summed(self) -> list[Number] | None:
        sums = self._sums
        assert sums is not None, "asked only while all numbers are ints"
        added = self.numbers[len(sums) - 1 :]
        if all(number.__class__ is int for number in added):
            sums[-1:] = accumulate(added, initial=sums[-1])
        else:
            sums = self._sums = None
        return sums

    def _unsum(self, at: int) -> None:
        """Forget the sums that the bucket at an index is in."""
        if self._sums is not None:
            del self._sums[at + 1 :]
