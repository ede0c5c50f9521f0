"""What becomes of events whose handlers raise, and of the good ones around them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, Reject, Retry, on
from streamproc.pipeline.dispatch import backoff_delay
from streamproc.pipeline.transaction import ShardHalted
from streamproc.testing import Harness


class Task(Event, id="name"):
    """`fails`: how often a try of it fails; `how`: with what."""

    name: str
    key: str = "k"
    fails: int = 0
    how: str = "error"


class Done(Event):
    name: str


FAILURES: dict[str, Callable[[], Exception]] = {
    "error": lambda: RuntimeError("as asked"),
    "reject": lambda: Reject("unwanted"),
    "retry": lambda: Retry(),
    "retry-after": lambda: Retry(after=7.5),
    "group": lambda: ExceptionGroup("several", [ValueError("one")]),
}


class Worker(Processor[list[str]]):
    """Writes each task's name into its key's state and emits it, then fails as asked."""

    policy = Policy(attempts=3, backoff=(1.0, 60.0))

    def __init__(self) -> None:
        self.calls: list[str] = []

    @on(Task, key="key")
    def work(self, event: Task, ctx: Context[list[str]]) -> None:
        self.calls.append(event.name)
        ctx.state.append(event.name)
        ctx.emit(Done(name=event.name))
        if ctx.attempt <= event.fails:
            raise FAILURES[event.how]()


class AsyncWorker(Processor[list[str]]):
    """The same, with a chance for other tasks to run in between."""

    name = "worker"
    policy = Policy(attempts=3, backoff=(1.0, 60.0))

    @on(Task, key="key")
    async def work(self, event: Task, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.name)
        await asyncio.sleep(0)
        ctx.emit(Done(name=event.name))
        await asyncio.sleep(0)
        if ctx.attempt <= event.fails:
            raise FAILURES[event.how]()


class Audit(Processor[int]):
    """A second processor on the same events, which never fails."""

    @on(Task, key="key")
    def count(self, event: Task, ctx: Context[int]) -> None:
        ctx.state += 1


def done(h: Harness) -> list[str]:
    return [each.name for each in h.emitted_as(Done)]


tasks = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([0, 0, 0, 1, 2, 3, 99])),
    min_size=1,
    max_size=12,
).map(lambda drawn: [Task(f"t{at}", key, fails) for at, (key, fails) in enumerate(drawn)])


@given(tasks=tasks, batch=st.integers(1, 12), kind=st.sampled_from([Worker, AsyncWorker]))
@settings(max_examples=80, deadline=None)
async def test_failing_events_leave_no_trace_and_good_ones_take_effect_once(
    tasks: list[Task], batch: int, kind: type[Processor[Any]]
) -> None:
    good = [task for task in tasks if task.fails < 3]
    async with Harness(kind(), Audit(), concurrency=2) as h:
        for first in range(0, len(tasks), batch):
            await h.send(*tasks[first : first + batch])
        for key in "ab":
            names = [task.name for task in good if task.key == key]
            assert (h.state("worker", key) or []) == names
            assert (h.state("audit", key) or 0) == len(names)
        assert done(h) == [task.name for task in good]
        assert [letter.event_id for letter in h.dead_letters] == [
            task.name for task in tasks if task.fails >= 3
        ]
        assert h.statistics.processed == len(good)
        assert h.statistics.retries == sum(min(task.fails, 2) for task in tasks)


async def test_a_batch_with_failures_is_run_at_most_twice() -> None:
    worker = Worker()
    async with Harness(worker) as h:
        await h.send(*[Task(f"t{n}", fails=99 if n in (3, 5) else 0, how="reject")
                       for n in range(8)])  # fmt: skip
    counts = {name: worker.calls.count(name) for name in worker.calls}
    assert max(counts.values()) == 2
    assert counts["t7"] == 1


async def test_a_dead_letter_tells_what_failed_and_why() -> None:
    async with Harness(Worker()) as h:
        await h.send(Task("t0"), Task("t1", fails=99), key="partition")
        (letter,) = h.dead_letters
        assert letter.reason == "handler-failed"
        assert letter.error == "RuntimeError: as asked"
        assert "in work" in letter.traceback
        assert (letter.attempts, letter.handler) == (3, "worker.work")
        assert (letter.event_type, letter.event_id) == ("Task", "t1")
        assert letter.partition_key == "partition"
        assert b'"name":"t1"' in letter.data
        assert h.statistics.failed_by_processor == {"worker": 1}


async def test_reject_skips_the_other_attempts() -> None:
    async with Harness(Worker()) as h:
        await h.send(Task("t", fails=99, how="reject"))
        assert [(d.reason, d.attempts) for d in h.dead_letters] == [("unwanted", 1)]
        assert h.delays == []


@pytest.mark.parametrize("how", ["error", "retry", "group"])
async def test_the_wait_between_attempts_doubles_with_jitter(how: str) -> None:
    async with Harness(Worker()) as h:
        await h.send(Task("t", fails=99, how=how))
        first, second = h.delays
        assert 0.5 <= first <= 1.0
        assert 1.0 <= second <= 2.0
        assert h.dead_letters[0].attempts == 3


async def test_retry_after_sets_the_wait() -> None:
    async with Harness(Worker()) as h:
        await h.send(Task("t", fails=2, how="retry-after"))
        assert h.delays == [7.5, 7.5]
        assert done(h) == ["t"]


@given(
    attempt=st.integers(1, 5_000), seed=st.integers(), low=st.floats(0, 10), more=st.floats(0, 60)
)
def test_backoff_stays_between_half_and_its_limit(
    attempt: int, seed: int, low: float, more: float
) -> None:
    policy = Policy(backoff=(low, low + more))
    delay = backoff_delay(policy, attempt, random.Random(seed))
    assert low / 2 <= delay <= low + more


class Halting(Worker):
    name = "worker"
    policy = Policy(attempts=2, backoff=(0.0, 0.0), then="halt")


async def test_halt_commits_what_came_before_and_stops_at_the_event() -> None:
    async with Harness(Halting(), Audit()) as h:
        await h.send(Task("t0"))
        with pytest.raises(ShardHalted, match=r"worker\.work failed 2 times .*mend") as halted:
            await h.send(Task("t1"), Task("t2", fails=99), Task("t3"))
        assert isinstance(halted.value.__cause__, RuntimeError)
        assert h.state("worker", "k") == ["t0", "t1"]
        assert h.state("audit", "k") == 2
        assert done(h) == ["t0", "t1"]
        assert h.dead_letters == []


async def test_halt_at_the_first_event_commits_nothing() -> None:
    async with Harness(Halting()) as h:
        before = h.store.dump()
        with pytest.raises(ShardHalted):
            await h.send(Task("t1", fails=99), Task("t2"))
        assert h.store.dump() == before


async def test_a_failure_of_one_processor_undoes_the_others_for_that_event() -> None:
    class Late(Processor[int]):
        @on(Task, key="key")
        def fail(self, event: Task, ctx: Context[int]) -> None:
            ctx.state += 1
            if event.how == "late":
                raise Reject("late")

    async with Harness(Audit(), Late()) as h:
        await h.send(Task("t0"), Task("t1", how="late"), Task("t2"))
        assert (h.state("audit", "k"), h.state("late", "k")) == (2, 2)
        assert h.dead_letters[0].handler == "late.fail"


class Recorder(Processor):
    """Notes when tasks begin and end; a task waits until the harness lets it go on."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.running = 0
        self.most_running = 0

    @on(Task, key="key")
    async def work(self, event: Task, ctx: Context) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.log.append(f"+{event.name}")
        for _ in range(5):
            await asyncio.sleep(0)
        self.log.append(f"-{event.name}")
        self.running -= 1


@given(keys=st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), width=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
async def test_events_of_one_key_run_one_after_another_in_order(
    keys: list[str], width: int
) -> None:
    recorder = Recorder()
    async with Harness(recorder, concurrency=width) as h:
        await h.send(*[Task(f"{key}{at}", key=key) for at, key in enumerate(keys)])
    for key in set(keys):
        expected = [
            f"{sign}{key}{at}" for at, own in enumerate(keys) if own == key for sign in "+-"
        ]
        assert [entry for entry in recorder.log if entry[1] == key] == expected
    assert recorder.most_running == min(width, len(set(keys)))


class Pair(Event, id="name"):
    name: str
    keys: list[str]


class Tally(Processor[int]):
    """Reads all its states, lets others run, and then writes: parallel runs would lose some."""

    @on(Pair, keys=lambda event: event.keys)
    async def count(self, event: Pair, ctx: Context[int]) -> None:
        before = dict(ctx.states)
        for _ in range(3):
            await asyncio.sleep(0)
        for key in ctx.states:
            ctx.states[key] = before[key] + 1


async def test_events_that_share_one_of_several_keys_run_one_after_another() -> None:
    pairs = ["ab", "bc", "cd", "da", "ee", "a", "ce"]
    async with Harness(Tally()) as h:
        await h.send(*[Pair(f"p{at}", list(pair)) for at, pair in enumerate(pairs)])
        assert {key: h.state("tally", key) for key in "abcde"} == {
            key: sum(key in pair for pair in pairs) for key in "abcde"
        }


async def test_events_of_one_partition_key_run_one_after_another() -> None:
    recorder = Recorder()
    async with Harness(recorder) as h:
        await h.send(Task("a", key="a"), Task("b", key="b"), key="partition")
    assert recorder.log == ["+a", "-a", "+b", "-b"]


async def test_an_async_handler_that_takes_too_long_has_failed() -> None:
    class Slow(Processor[int]):
        policy = Policy(attempts=2, backoff=(0.0, 0.0), timeout=0.01)

        @on(Task, key="key")
        async def wait(self, event: Task, ctx: Context[int]) -> None:
            ctx.state += 1
            if event.name == "slow":
                await asyncio.Event().wait()

    async with Harness(Slow()) as h:
        await h.send(Task("quick", key="a"), Task("slow", key="b"))
        assert [(d.event_id, d.error, d.attempts) for d in h.dead_letters] == [
            ("slow", "TimeoutError: not done within 0.01 s", 2)
        ]
        assert (h.state("slow", "a"), h.state("slow", "b")) == (1, None)


async def test_cancelling_the_worker_is_no_failure_of_the_event() -> None:
    entered = asyncio.Event()

    class Endless(Processor[int]):
        policy = Policy(attempts=1, timeout=None)

        @on(Task, key="key")
        async def wait(self, event: Task, ctx: Context[int]) -> None:
            ctx.state += 1
            entered.set()
            await asyncio.Event().wait()

    async with Harness(Endless()) as h:
        before = h.store.dump()
        sending = asyncio.create_task(h.send(Task("t0"), Task("t1", key="other")))
        await entered.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert h.store.dump() == before
        assert h.statistics.records == 0


async def test_what_a_cancelled_handler_did_is_forgotten() -> None:
    entered = asyncio.Event()

    class Hesitant(Processor[int]):
        waits = True

        @on(Task, key="key")
        async def count(self, event: Task, ctx: Context[int]) -> None:
            ctx.state += 1
            if event.name == "t1" and self.waits:
                entered.set()
                await asyncio.Event().wait()

    hesitant = Hesitant()
    async with Harness(hesitant) as h:
        await h.send(Task("t0"))
        sending = asyncio.create_task(h.send(Task("t1")))
        await entered.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        hesitant.waits = False
        await h.send(Task("t1"))
        assert h.state("hesitant", "k") == 2


async def test_an_event_whose_handler_is_cancelled_from_within_is_not_lost() -> None:
    """A client's shared future that somebody cancelled looks like our own cancellation."""

    class Shared(Processor[int]):
        policy = Policy(attempts=2, backoff=(0.0, 0.0))

        @on(Task, key="key")
        async def call(self, event: Task, ctx: Context[int]) -> None:
            if event.name == "unlucky":
                shared = asyncio.get_running_loop().create_future()
                shared.cancel()
                await shared
            ctx.state += 1

    async with Harness(Shared(), concurrency=1) as h:
        await h.send(Task("t0", key="a"), Task("unlucky", key="b"), Task("t2", key="c"))
        assert [d.event_id for d in h.dead_letters] == ["unlucky"]
        assert [h.state("shared", key) for key in "abc"] == [1, None, 1]
