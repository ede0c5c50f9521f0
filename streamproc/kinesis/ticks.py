"""One timer for all quiet shards that are due together.

A thousand shards that each wait for their own instant wake a process a thousand times a second,
each time from cold: a timer, a round of the event loop and a switch for one poll. Those whose polls
fall on the same instants share them (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["GRID_S", "MOST", "Ticks"]

GRID_S: Final = 0.1
"""Seconds between two instants: a poll comes at most half of it early or late, and of a thousand
shards asked every second 100 are asked at a time."""

MOST: Final = 200
"""Who come together before others take the instants between: larger bunches are hardly cheaper a
poll, and hold the loop up for longer."""

T = TypeVar("T")


class Ticks(Generic[T]):
    """Instants of the running loop's clock, with one timer for each that somebody waits for.

    Args:
        strike: called at an instant with all who wait for it; it must not raise.
        grid: seconds between two instants; while one has its fill, there are others half-way.
    """

    def __init__(self, strike: Callable[[list[T]], None], grid: float = GRID_S) -> None:
        self._called = strike
        self._half = grid / 2
        # Kept: to ask for the running loop is a system call in CPython 3.11 (getpid).
        self._loop = asyncio.get_running_loop()
        self._due: dict[int, list[T]] = {}

    def wait(self, at: float, who: T) -> None:
        """Have `strike` called for `who` at the instant nearest to `at`, or now if that has passed.

        Args:
            at: a time of the running loop, in seconds.
            who: who is due then.
        """
        halves = at / self._half
        tick = 2 * round(halves / 2)
        due = self._due.get(tick)
        if due is not None and len(due) >= MOST:
            tick = round(halves)
            due = self._due.get(tick)
        if due is None:
            due = self._due[tick] = []
            self._loop.call_at(tick * self._half, self._strike, tick)
        due.append(who)

    def _strike(self, tick: int) -> None:
        self._called(self._due.pop(tick))
