"""Many processes in one thread: each with event loops and a clock of its own, all from one seed.

asyncio knows one loop a thread at a time; here many take turns. A host that is paused is simply not
given its turn, which no task of a shared loop could show, and one that crashed never gets it again.
Nothing waits: when no loop has anything ready, time jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, TypeVar

__all__ = ["Host", "Kernel", "SimLoop"]

T = TypeVar("T")
_numbers = itertools.count()


class _Numbered:
    """Something hashed by a number that is the same in every run: asyncio keeps sets of these.

    Invariant: numbers are given out in the order in which they are first asked for.
    """

    _number: int | None = None

    def __hash__(self) -> int:
        if self._number is None:
            self._number = next(_numbers)
        return self._number


class _Task(_Numbered, asyncio.Task[T]):
    """A task whose place in a set does not depend on its address."""


class _Future(_Numbered, asyncio.Future[Any]):
    """A future whose place in a set does not depend on its address."""


class Kernel:
    """Global time, the timers of all loops, and whose turn it is.

    Attributes:
        now: seconds of true time; hosts see it through their clocks.
        rng: where all randomness of a run comes from.
        errors: what tasks raised that nobody looked at.
    """

    def __init__(self, seed: int) -> None:
        global _numbers
        _numbers = itertools.count()
        self.now = 0.0
        self.rng = Random(seed)
        self.errors: list[str] = []
        self.runnable: list[SimLoop] = []
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have an action done at a time, or as soon as possible after it."""
        heapq.heappush(self._timers, (max(when, self.now), next(self._order), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Have an action done after a delay."""
        self.at(self.now + delay, action)

    def forget_timers(self) -> None:
        """Let nothing happen any more that was to happen."""
        self._timers.clear()

    def run_until(self, end: float) -> None:
        """Let time pass until `end`."""
        timers, runnable = self._timers, self.runnable
        while True:
            while runnable:
                at = self.rng.randrange(len(runnable)) if len(runnable) > 1 else 0
                loop = runnable[at]
                runnable[at] = runnable[-1]
                runnable.pop()
                loop.turn()
            if not timers or timers[0][0] > end:
                self.now = end
                return
            self.now, _, action = heapq.heappop(timers)
            action()


class Host:
    """A process: loops that share a clock, are paused together and die together.

    Args:
        kernel: the world's time.
        rate: seconds of this host's clock for one true second.
    """

    def __init__(self, kernel: Kernel, rate: float = 1.0) -> None:
        self.kernel = kernel
        self.rate = rate
        self.alive = True
        self.paused = False
        self._offset = kernel.rng.uniform(1e3, 1e6)
        self.loops: list[SimLoop] = []

    def loop(self) -> SimLoop:
        """Open another loop, as another thread would have."""
        loop = SimLoop(self)
        self.loops.append(loop)
        return loop

    def time(self) -> float:
        """Return this host's monotonic clock, which goes on during a pause."""
        return self._offset + self.rate * self.kernel.now

    def true_time(self, local: float) -> float:
        """Return when this host's clock shows `local`."""
        return (local - self._offset) / self.rate

    def crash(self) -> None:
        """Never run again; nothing is cleaned up."""
        self.alive = False
        for loop in self.loops:
            loop.withdraw()

    def pause(self) -> None:
        """Stand still, as after SIGSTOP."""
        self.paused = True
        for loop in self.loops:
            loop.withdraw()

    def resume(self) -> None:
        """Go on, with all timers that came due meanwhile."""
        self.paused = False
        for loop in self.loops:
            loop.offer()

    def bury(self) -> None:
        """Cancel all that is left, so that no coroutine is destroyed half done."""
        self.alive, self.paused = True, False
        for _ in range(50):
            tasks = [task for loop in self.loops for task in asyncio.all_tasks(loop)]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            for loop in self.loops:
                loop.offer()
            self.kernel.run_until(self.kernel.now + 1.0)
        self.alive = False


class SimLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that needs no file, socket, thread or signal."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._kernel = host.kernel
        self._ready: deque[asyncio.Handle] = deque()
        self._offered = False

    def turn(self) -> None:
        """Run what is ready now, as one iteration of a loop does."""
        self._offered = False
        ready = self._ready
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                if not self.host.alive or self.host.paused:
                    return
        finally:
            asyncio._set_running_loop(None)
        self.offer()

    def offer(self) -> None:
        """Take a place among the runnable, if there is anything to run."""
        if self._ready and not self._offered and self.host.alive and not self.host.paused:
            self._offered = True
            self._kernel.runnable.append(self)

    def withdraw(self) -> None:
        """Leave the runnable."""
        if self._offered:
            self._offered = False
            self._kernel.runnable.remove(self)

    def start(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Make a task from outside."""
        return self.create_task(main)

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.host.time()

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._offered:
            self.offer()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            if not timer._cancelled:
                self._ready.append(timer)
                self.offer()

        self._kernel.at(self.host.true_time(when), due)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed has a generator, too
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[T]:
        return _Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.host.alive:
            error = context.get("exception")
            self._kernel.errors.append(f"{context.get('message')}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is passed over when it is due."""
