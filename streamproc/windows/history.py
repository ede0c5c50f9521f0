"""The exact sliding window: every event is kept, and any length can be asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from math import inf
from typing import Any, ClassVar

import msgspec

from streamproc.windows.numbers import Number, require_number

__all__ = ["History", "Value", "Window"]

Value = int | float | str
"""What one event of a history carries: a number to sum, or a name to count different ones of."""


class Window(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The events of a history with a time in (start, end]; a view, valid until the next change.

    `count` costs nothing more, `sum` and `mean` a subtraction; the others look at each event.

    Attributes:
        count: how many events it has.
    """

    history: History
    first: int
    count: int
    start: Number

    @property
    def sum(self) -> Number:
        """The sum of their values: exact for ints, see `History` for floats.

        Raises:
            TypeError: values are text.
        """
        first, history = self.first, self.history
        sums = history._sums or history._summed()
        return sums[first + self.count] - sums[first]

    @property
    def mean(self) -> float | None:
        """Their mean value; None without events."""
        first, count, history = self.first, self.count, self.history
        if not count:
            return None
        sums = history._sums or history._summed()
        return (sums[first + count] - sums[first]) / count

    @property
    def min(self) -> Any:
        """The least value; None without events."""
        return min(self.values, default=None)

    @property
    def max(self) -> Any:
        """The greatest value; None without events."""
        return max(self.values, default=None)

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(set(self.values))

    @property
    def values(self) -> list[Value]:
        """Their values, in order of time."""
        return self.history.values[self.first : self.first + self.count]

    @property
    def times(self) -> list[Number]:
        """Their times, ascending."""
        return self.history.times[self.first : self.first + self.count]

    @property
    def is_complete(self) -> bool:
        """Whether nothing that belongs here was forgotten; if not, counts are lower bounds."""
        since = self.history.since
        return since is None or self.start >= since


class History(msgspec.Struct, omit_defaults=True, dict=True):
    """Events of one key by event time, and exact windows of any length over them.

        class Payments(History):
            keep = 30 * 86_400          # the longest window, plus its delay

        class Card(msgspec.Struct):
            payments: Payments = msgspec.field(default_factory=Payments)

        card.payments.add(time, amount_minor)
        day, month = card.payments.window(86_400), card.payments.window(30 * 86_400)

    Times and lengths are in one unit of your choice; with ints (milliseconds, say) the borders of
    windows are exact. An event may come out of order: it takes its place in event time, after
    those with the same time.

    `limit` bounds the state whatever a key does. What either bound makes it forget shows in
    `Window.is_complete`.

    Invariant: results are a function of the stored fields alone, to the last bit, so a replay and
    another worker's decoded copy give the same. Sums of floats are differences of running sums,
    begun afresh whenever a quarter of the events has been forgotten: with n events held they are
    off by less than n * 2.3e-16 of the sum of all absolute values held.

    Class attributes:
        keep: how far behind the newest event others are kept.
        lateness: an event this much behind the newest is dropped; inf takes all that `keep` allows.
        limit: most events held; when there are more, the oldest quarter is forgotten.

    Attributes:
        times: ascending.
        values: of the same events.
        since: every event after this time is still held; None while nothing was forgotten.
        dropped: events not taken because they were too late.
    """

    keep: ClassVar[Number] = inf
    lateness: ClassVar[Number] = inf
    limit: ClassVar[int] = 10_000
    # Running sums of `values` from 0, once asked for; derived, so not stored.
    _sums: ClassVar[list[Number] | None] = None

    times: list[int | float] = []
    values: list[int | float | str] = []
    since: int | float | None = None
    dropped: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.keep <= 0 or cls.lateness < 0 or cls.limit < 4:
            raise TypeError(f"{cls.__name__}: keep > 0, lateness >= 0 and limit >= 4, please")

    def add(self, time: Number, value: Value = 1) -> bool:
        """Take an event in; False when it is too late and was only counted in `dropped`.

        Amortised constant time in order of time; linear in the events after it otherwise.

        Raises:
            TypeError: the time or the value is of a type that cannot be stored.
            ValueError: one of them is not finite, or absurdly large.
        """
        if time.__class__ is not int:
            require_number("time", time)
        kind = value.__class__
        if kind is not int and kind is not str:
            require_number("value", value)
        times = self.times
        if not times:
            if self._is_forgotten(time):
                self.dropped += 1
                return False
        elif time < times[-1]:
            return self._insert(time, value)
        sums = self._sums
        if sums is not None:
            sums.append(sums[-1] + value)  # type: ignore[operator]
        times.append(time)
        self.values.append(value)
        held = len(times)
        if not held & 7 or held > self.limit:
            self._forget(held)
        return True

    def remove(self, time: Number, value: Value = 1) -> bool:
        """Take one event back, such as a retracted label; False when there is none like it."""
        at = bisect_left(self.times, time)
        while at < len(self.times) and self.times[at] == time:
            if self.values[at] == value:
                del self.times[at], self.values[at]
                self._sum_again(at)
                return True
            at += 1
        return False

    def window(self, length: Number, *, at: Number | None = None, delay: Number = 0) -> Window:
        """Return the events in (at - delay - length, at - delay].

        Args:
            length: how long; not longer than `keep`.
            at: the present; the newest event's time if None. Give an event's own time to see what
                it sees when it comes out of order.
            delay: how long ago the window ends.
        """
        return self.windows((length,), at=at, delay=delay)[0]

    def windows(
        self, lengths: Iterable[Number], *, at: Number | None = None, delay: Number = 0
    ) -> list[Window]:
        """Return a window for each of several lengths that end together; see `window`."""
        times = self.times
        end, beyond = self._end(at, delay)
        found = []
        for length in lengths:  # a comprehension is slower before Python 3.12
            start = end - length
            first = bisect_right(times, start, 0, beyond)
            found.append(Window(self, first, beyond - first, start))
        return found

    def counts(
        self, lengths: Iterable[Number], *, at: Number | None = None, delay: Number = 0
    ) -> list[int]:
        """Return only the counts of `windows`, at half the cost."""
        times = self.times
        end, beyond = self._end(at, delay)
        found = []
        for length in lengths:
            found.append(beyond - bisect_right(times, end - length, 0, beyond))  # noqa: PERF401
        return found

    @property
    def newest(self) -> Number | None:
        """The latest event time; None without events."""
        return self.times[-1] if self.times else None

    def _end(self, at: Number | None, delay: Number) -> tuple[Number, int]:
        times = self.times
        if at is None:
            at = times[-1] if times else -inf
        end = at - delay
        held = len(times)
        return end, held if not held or times[-1] <= end else bisect_right(times, end)

    def _insert(self, time: Number, value: Value) -> bool:
        times = self.times
        behind = times[-1] - time
        if behind > self.lateness or behind > self.keep or self._is_forgotten(time):
            self.dropped += 1
            return False
        at = bisect_right(times, time)
        times.insert(at, time)
        self.values.insert(at, value)
        self._sum_again(at)
        if len(times) > self.limit:
            self._forget(len(times))
        return True

    def _is_forgotten(self, time: Number) -> bool:
        return self.since is not None and time < self.since

    def _forget(self, held: int) -> None:
        """Drop a quarter or more that is older than `keep`, and the oldest if they are too many."""
        times, limit = self.times, self.limit
        before = times[-1] - self.keep
        if times[held >> 2] <= before:
            gone = bisect_right(times, before)
        elif held > limit:
            gone = held - limit + limit // 4
            before = times[gone - 1]
        else:
            return
        if self.since is None or before > self.since:
            self.since = before
        del times[:gone], self.values[:gone]
        if self._sums is not None:
            self._summed()

    def _summed(self) -> list[Number]:
        sums: list[Number] = list(accumulate(self.values, initial=0))  # type: ignore[arg-type]
        self._sums = sums  # type: ignore[misc]  # in the instance's dict, over the class's None
        return sums

    def _sum_again(self, at: int) -> None:
        """Renew the running sums from the event at index `at` on."""
        sums = self._sums
        if sums is not None:
            sums[at:] = accumulate(self.values[at:], initial=sums[at])  # type: ignore[arg-type]
