"""An event loop whose clock jumps to the next timer instead of waiting for it.

`run(main())` runs a coroutine in such a loop. Everything that takes its time from the loop,
`asyncio.sleep` and `asyncio.timeout` among it, then takes none, and a run repeats exactly.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NothingToDo(Exception):
    """No task can go on and no timer is set: the code under test waits for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Advances `now` by the time that a select would have waited."""

    now = 1_000.0  # Not 0: code that takes 0 for "never" should show.

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise NothingToDo
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop for one thread: no executor, no other process can be waited for."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Return the running loop's time in seconds; a clock to inject."""
    return asyncio.get_running_loop().time()
