"""Lists of values that rules look up, whose entries may expire."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ValueList"]


class ValueList:
    """Values, each with the event time in seconds from which on it does not count any more.

    Event time, not the clock: a replay then decides as the first run did.
    """

    __slots__ = ("_until", "expiring")

    def __init__(self, until: Mapping[str, float]) -> None:
        self._until = dict(until)
        self.expiring = sum(time < float("inf") for time in until.values())

    def __len__(self) -> int:
        return len(self._until)

    def holds(self, value: str | None, now: float) -> bool:
        """Whether `value` is listed at time `now`; missing text never is."""
        until = self._until.get(value)  # type: ignore[arg-type]  # None is no key, as is meant
        return until is not None and now < until
