"""Steps side by side: all results, or the first error with nothing left running."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.pipeline.together import together


class Step:
    """Waits for its gate; remembers how it ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.ended = ""

    async def run(self, result: int | Exception) -> int:
        try:
            await self.gate.wait()
            if isinstance(result, Exception):
                raise result
        except BaseException as error:
            await asyncio.sleep(0)
            self.ended = type(error).__name__
            raise
        self.ended = "done"
        return result


async def test_all_results_come_in_the_order_of_the_steps() -> None:
    steps = [Step(), Step(), Step()]
    running = asyncio.create_task(together([step.run(n) for n, step in enumerate(steps)]))
    for step in reversed(steps):
        await asyncio.sleep(0)
        step.gate.set()
    assert await running == [0, 1, 2]
    assert await together([]) == []


async def test_one_step_alone_runs_in_the_callers_task() -> None:
    async def who() -> asyncio.Task[None] | None:
        return asyncio.current_task()

    assert await together([who()]) == [asyncio.current_task()]


async def test_the_first_failure_cancels_the_others_and_waits_for_their_end() -> None:
    steps = [Step(), Step(), Step()]
    results: list[int | Exception] = [0, ValueError("first"), 2]
    running = asyncio.create_task(
        together([step.run(result) for step, result in zip(steps, results, strict=True)])
    )
    await asyncio.sleep(0)
    steps[1].gate.set()
    with pytest.raises(ValueError, match="first"):
        await running
    assert [step.ended for step in steps] == ["CancelledError", "ValueError", "CancelledError"]


async def test_cancelled_from_outside_all_steps_end() -> None:
    steps = [Step(), Step()]
    running = asyncio.create_task(together([step.run(0) for step in steps]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [step.ended for step in steps] == ["CancelledError"] * 2
