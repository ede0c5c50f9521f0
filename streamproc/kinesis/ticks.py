"""One timer for all quiet shards that are due together.

A thousand shards that each wait for their own instant wake a process a thousand times a second,
each time from cold: a timer, a round of the event loop and a switch for one poll. Those whose polls
fall on the same instants share them (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["GRID_S", "Ticks"]

GRID_S: Final = 0.05
"""Seconds between two instants: a poll comes at most half of it early or late, and of a thousand
shards asked every second 50 are asked at a time."""


class Ticks:
    """Instants of the running loop's clock, with one timer for each that somebody waits for.

    Args:
        grid: seconds between two instants.
    """

    def __init__(self, grid: float = GRID_S) -> None:
        self._grid = grid
        # Kept: to ask for the running loop is a system call in CPython 3.11 (getpid).
        self._loop = asyncio.get_running_loop()
        self._due: dict[int, list[Callable[[], None]]] = {}

    def call(self, at: float, callback: Callable[[], None]) -> None:
        """Call back at the instant nearest to `at`, or now if that has passed; it must not raise.

        Args:
            at: a time of the running loop, in seconds.
            callback: whom to call.
        """
        tick = round(at / self._grid)
        due = self._due.get(tick)
        if due is None:
            due = self._due[tick] = []
            self._loop.call_at(tick * self._grid, self._strike, tick)
        due.append(callback)

    def _strike(self, tick: int) -> None:
        for callback in self._due.pop(tick):
            callback()
