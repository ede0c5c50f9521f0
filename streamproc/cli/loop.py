"""The event loop that commands run in."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["calm_collector", "run_loop"]

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in uvloop where the platform has it, in asyncio's own loop otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def calm_collector() -> None:
    """Let the garbage collector look less often, and never at what was loaded to start with.

    A batch makes thousands of objects that live until its commit and then go by reference count;
    the default thresholds have them all traced dozens of times for nothing, which cost a worker a
    third of its CPU time (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
