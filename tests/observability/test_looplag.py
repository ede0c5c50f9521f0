from __future__ import annotations

import asyncio
import time

import pytest

from streamproc.observability.looplag import LoopLag


class Loop:
    """Time that passes only by sleeping, more than asked for by what is in `stalls`."""

    def __init__(self, *stalls: float) -> None:
        self.now = 100.0
        self.stalls = list(stalls)
        self.finished = asyncio.Event()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self.stalls:
            self.finished.set()
            await asyncio.Event().wait()
        self.now += seconds + self.stalls.pop(0)


async def measured(loop: Loop, window: int = 30) -> float:
    with LoopLag(0.5, window, clock=loop.clock, sleep=loop.sleep) as lag:
        await loop.finished.wait()
        return lag.seconds


async def test_lag_is_what_a_sleep_takes_too_long() -> None:
    assert await measured(Loop(0.25)) == pytest.approx(0.25)


async def test_a_loop_in_time_has_no_lag_even_if_a_clock_is_coarse() -> None:
    assert await measured(Loop(0.0, -0.001)) == 0.0


async def test_the_worst_of_the_window_shows_until_it_is_over() -> None:
    assert await measured(Loop(2.0, 0.0, 0.1), window=3) == pytest.approx(2.0)
    assert await measured(Loop(2.0, 0.0, 0.1), window=2) == pytest.approx(0.1)


async def test_a_stall_shows_before_the_measuring_task_is_awake() -> None:
    loop = Loop()
    with LoopLag(0.5, clock=loop.clock, sleep=loop.sleep) as lag:
        await loop.finished.wait()
        loop.now += 3.5
        assert lag.seconds == pytest.approx(3.0)


async def test_nothing_is_measured_before_and_after() -> None:
    loop = Loop()
    lag = LoopLag(0.5, clock=loop.clock, sleep=loop.sleep)
    assert lag.seconds == 0.0
    with lag:
        await loop.finished.wait()
    await asyncio.sleep(0)  # the cancelled task takes a turn to end
    loop.now += 100
    assert lag.seconds == 0.0


async def test_a_handler_that_blocks_the_loop_is_seen() -> None:
    with LoopLag(0.01) as lag:
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - blocking the loop is the point
        assert lag.seconds > 0.05
