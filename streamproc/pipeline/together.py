"""Runs the partitions' share of a step side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["together"]

T = TypeVar("T")


async def together(steps: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all steps at once and return their results; one alone is awaited without a task.

    The first that fails cancels the others, which are awaited before its error is raised.
    """
    if len(steps) == 1:
        return [await steps[0]]
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
    failures = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    for task in failures:
        task.result()
    return [task.result() for task in tasks]
