"""The event loop that commands run in."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["calm_collector", "run_loop"]

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in uvloop where the platform has it, in asyncio's own loop otherwise.

    SIGTERM ends it as Ctrl-C does: `main` is cancelled, so that what it has opened is closed and
    what it has started ends; a second one does not wait for that. What handles the signal in the
    loop itself, as `streamproc run` does, is not interfered with.

    Raises:
        SystemExit: it was ended by SIGTERM; the code is 128 and the signal's number, as a shell
            would show it.
    """
    ending = _EndsBySigterm()
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    try:
        return run(ending.of(main))
    except asyncio.CancelledError:
        if not ending.was_told:
            raise
        raise SystemExit(128 + signal.SIGTERM) from None


class _EndsBySigterm:
    def __init__(self) -> None:
        self.was_told = False

    async def of(self, main: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        if threading.current_thread() is not threading.main_thread():
            return await main  # signals are the main thread's
        loop = asyncio.get_running_loop()

        def on_sigterm() -> None:
            loop.remove_signal_handler(signal.SIGTERM)
            self.was_told = True
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, on_sigterm)
        try:
            return await main
        finally:
            loop.remove_signal_handler(signal.SIGTERM)


def calm_collector() -> None:
    """Let the garbage collector look less often, and never at what was loaded to start with.

    A batch makes thousands of objects that live until its commit and then go by reference count;
    the default thresholds have them all traced dozens of times for nothing, which cost a worker a
    third of its CPU time (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
