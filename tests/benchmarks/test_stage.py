"""What runs beside a measurement must not fail unnoticed."""

from __future__ import annotations

import asyncio

import pytest

from streamproc_benchmarks.stage import StageError, beside


async def fails_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise ValueError("the load broke")


async def test_waiting_ends_at_once_with_the_error_of_what_runs_beside() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(ValueError, match="the load broke"):
            async with beside(asyncio.sleep(3_600), fails_after(0.0)) as wait:
                await wait(3_600)


async def test_what_ends_too_early_is_an_error() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(StageError, match="still needed"):
            async with beside(asyncio.sleep(0)) as wait:
                await wait(3_600)


async def test_what_runs_beside_ends_with_the_context() -> None:
    ended = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with beside(run()) as wait:
        await wait(0.0)
    assert ended == [True]
