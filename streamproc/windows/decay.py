"""Exponential decay: a window without an edge, in four numbers."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any, ClassVar

import msgspec

from streamproc.windows.numbers import Number, require_number

__all__ = ["Decay"]


class Decay(msgspec.Struct, omit_defaults=True):
    """Count, sum and sum of squares in which an event weighs half after each `half_life`.

        class Habit(Decay):
            half_life = 7 * 86_400

    Not an approximation of a sliding window: an event fades, it does not leave. Events may come in
    any order; a late one is taken with the weight that it has by now.

    Class attributes:
        half_life: in the unit of the times.

    Attributes:
        count, sum, sumsq: as of `last`, the latest event time.
    """

    half_life: ClassVar[Number] = 86_400

    count: float = 0.0
    sum: float = 0.0
    sumsq: float = 0.0
    last: int | float | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not 0 < cls.half_life < inf:
            raise TypeError(f"{cls.__name__}: half_life > 0, please")

    def add(self, time: Number, value: Number = 1) -> None:
        """Take an event in.

        Raises:
            TypeError: the time or the value is no int or float.
            ValueError: one of them is not finite, or absurdly large.
        """
        require_number("time", time)
        require_number("value", value)
        last = self.last
        weight = 1.0
        if last is None:
            self.last = time
        elif time >= last:
            faded = 0.5 ** ((time - last) / self.half_life)
            self.count *= faded
            self.sum *= faded
            self.sumsq *= faded
            self.last = time
        else:
            weight = 0.5 ** ((last - time) / self.half_life)
        self.count += weight
        self.sum += weight * value
        self.sumsq += weight * value * value

    def count_at(self, time: Number) -> float:
        """Return the weight of all events as of a time that is not before `last`."""
        return self.count * self._faded(time)

    def sum_at(self, time: Number) -> float:
        """Return the weighted sum as of a time that is not before `last`."""
        return self.sum * self._faded(time)

    @property
    def mean(self) -> float | None:
        """The weighted mean, which is the same at any time; None without events."""
        return self.sum / self.count if self.count else None

    @property
    def deviation(self) -> float | None:
        """The weighted standard deviation; None without events."""
        mean = self.mean
        if mean is None:
            return None
        return sqrt(max(0.0, self.sumsq / self.count - mean * mean))

    def _faded(self, time: Number) -> float:
        return 1.0 if self.last is None else 0.5 ** ((time - self.last) / self.half_life)
