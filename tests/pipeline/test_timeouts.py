"""A handler whose time is over has failed, and nothing that it does afterwards takes effect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from streamproc import Context, Event, Policy, Processor, Retry, on
from streamproc.errors import ContextClosed
from streamproc.testing import Harness
from tests import virtual_time


class Task(Event, id="name"):
    name: str
    key: str = "k"


class Done(Event):
    name: str


async def sleep_through_cancellation(seconds: float) -> None:
    """Wait, and go on waiting when told to stop."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(until - loop.time())


class Stubborn(Processor[list[str]]):
    """Swallows the cancellation, and then tries everything that a context offers."""

    policy = Policy(attempts=2, backoff=(0.0, 0.0), timeout=1.0)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.refused: list[str] = []
        self.ended = asyncio.Event()

    @on(Task, key="key")
    async def work(self, event: Task, ctx: Context[list[str]]) -> None:
        mine, states = ctx.state, ctx.states
        if event.name == "slow":
            await sleep_through_cancellation(self.seconds)
            uses: dict[str, Any] = {
                "state": lambda: ctx.state,
                "assign": lambda: setattr(ctx, "state", ["late"]),
                "states": lambda: states["k"],
                "set states": lambda: states.__setitem__("k", ["late"]),
                "emit": lambda: ctx.emit(Done(name="late")),
                "event_id": lambda: ctx.event_id,
                "attempt": lambda: ctx.attempt,
                "idempotency_key": lambda: ctx.idempotency_key,
            }
            for name, use in uses.items():
                with pytest.raises(ContextClosed, match=r"stubborn: ctx\..* outran its timeout"):
                    use()
                self.refused.append(name)
            mine.append("late")
            if len(self.refused) == 2 * len(uses):
                self.ended.set()
            return
        mine.append(event.name)
        ctx.emit(Done(name=event.name))


@pytest.mark.parametrize("seconds", [1.5, 60.0], ids=["within the grace", "long after"])
def test_a_handler_that_swallows_its_timeout_has_failed_and_its_context_is_dead(
    seconds: float,
) -> None:
    async def main() -> None:
        processor = Stubborn(seconds)
        async with Harness(processor, concurrency=1) as h:
            loop = asyncio.get_running_loop()
            before = loop.time()
            await h.send(Task("a"), Task("slow"), Task("b"))
            # Three calls of it, each with 1 s and at most as long to clean up; nothing waits more.
            assert loop.time() - before <= 6.5
            await h.send(Task("c"))
            await asyncio.wait_for(processor.ended.wait(), 100)
            await h.send(Task("d"))
            assert [d.error for d in h.dead_letters] == ["TimeoutError: not done within 1 s"]
            assert h.state("stubborn", "k") == ["a", "b", "c", "d"]
            assert [each.name for each in h.emitted_as(Done)] == ["a", "b", "c", "d"]

    virtual_time.run(main())


def test_a_worker_that_is_cancelled_does_not_wait_for_a_handler_that_goes_on() -> None:
    async def main() -> None:
        entered = asyncio.Event()

        class Deaf(Processor[int]):
            policy = Policy(timeout=None)

            @on(Task, key="key")
            async def work(self, event: Task, ctx: Context[int]) -> None:
                ctx.state += 1
                entered.set()
                await sleep_through_cancellation(1_000)
                with pytest.raises(ContextClosed):
                    ctx.state += 1

        async with Harness(Deaf()) as h:
            before = h.store.dump()
            sending = asyncio.create_task(h.send(Task("t")))
            await entered.wait()
            started = asyncio.get_running_loop().time()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert asyncio.get_running_loop().time() - started <= 1.5
            assert h.store.dump() == before
            await asyncio.sleep(2_000)
            assert h.store.dump() == before

    virtual_time.run(main())


async def test_a_task_that_a_handler_left_running_has_no_part_in_later_events() -> None:
    go, refused = asyncio.Event(), asyncio.Event()

    class Leaking(Processor[list[str]]):
        def __init__(self) -> None:
            self.leaked: list[asyncio.Task[None]] = []

        @on(Task, key="key")
        async def work(self, event: Task, ctx: Context[list[str]]) -> None:
            async def later() -> None:
                await go.wait()
                try:
                    ctx.state.append("leaked")
                except ContextClosed:
                    refused.set()

            if event.name == "t0":
                self.leaked.append(asyncio.create_task(later()))
            else:
                go.set()
                await refused.wait()
            ctx.state.append(event.name)

    async with Harness(Leaking()) as h:
        await h.send(Task("t0"))
        await h.send(Task("t1"))
        assert h.state("leaking", "k") == ["t0", "t1"]


async def test_a_handler_that_cancels_its_own_task_loses_no_other_event() -> None:
    class Suicidal(Processor[int]):
        policy = Policy(attempts=1)

        @on(Task, key="key")
        async def work(self, event: Task, ctx: Context[int]) -> None:
            if event.name == "bad":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            ctx.state += 1

    async with Harness(Suicidal(), concurrency=1) as h:
        await h.send(Task("t0"), Task("bad", key="b"), Task("t2", key="c"))
        assert [d.event_id for d in h.dead_letters] == ["bad"]
        assert [h.state("suicidal", key) for key in "kbc"] == [1, None, 1]


class Ageing(Processor):
    """Fails each time; waits 10 s between attempts."""

    policy = Policy(attempts=1_000, backoff=(0.0, 0.0), max_age=65.0)

    @on(Task)
    def work(self, event: Task, ctx: Context) -> None:
        raise Retry(after=10.0)


async def test_there_are_no_more_attempts_once_the_record_is_older_than_max_age() -> None:
    async with Harness(Ageing()) as h:
        await h.send(Task("t"))
        assert h.delays == [10.0] * 6
        assert h.dead_letters[0].attempts == 7


async def test_a_record_that_is_too_old_already_is_tried_once() -> None:
    async with Harness(Ageing()) as h:
        record = h.record(Task("t"))
        h.now += 3_600
        await h.process(record)
        assert (h.delays, h.dead_letters[0].attempts) == ([], 1)
