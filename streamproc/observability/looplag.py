"""How late the event loop is: the sign of a handler that blocks it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

__all__ = ["LoopLag"]


class LoopLag:
    """Measures by how much the event loop oversleeps; runs as a task while the context is open.

    Args:
        interval: seconds between measurements.
        window: measurements that `seconds` looks back over.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        interval: float = 0.5,
        window: int = 30,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._recent: deque[float] = deque(maxlen=window)
        self._due: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """The greatest lag of the window (15 s by default), so that a scrape misses no stall."""
        # Whoever asks may be served before the measuring task is woken after a stall.
        overdue = 0.0 if self._due is None else self._clock() - self._due
        return max(0.0, overdue, *self._recent)

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._due = self._clock() + self._interval
                await self._sleep(self._interval)
                self._recent.append(self._clock() - self._due)
        finally:
            self._due = None

    def __enter__(self) -> Self:
        """Begin to measure in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self.run(), name="loop lag")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End measuring."""
        if self._task is not None:
            self._task.cancel()
