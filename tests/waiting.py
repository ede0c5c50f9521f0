"""Waiting in real time for what real servers and processes do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def until(
    condition: Callable[[], Any],
    timeout: float = 30.0,
    *,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Wait until a condition holds; one that is a coroutine is awaited each time.

    `watch` is called after each look in vain; it raises what makes it useless to wait any longer.
    """
    async with asyncio.timeout(timeout):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            watch()
            await asyncio.sleep(0.01)
