"""Quiet shards, polled from callbacks: at their interval, together, and with nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    MalformedResponseError,
    ReaderClosedError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.polling import Mode
from streamproc.kinesis.quiet import Quiet, QuietCall, QuietShards
from streamproc.kinesis.reader import ShardReader
from streamproc.kinesis.records import ChildShard, HashKeyRange
from streamproc.kinesis.ticks import GRID_S
from streamproc.position import TRIM_HORIZON, Position
from tests import virtual_time

from .fakes import SHARD, FakeKinesis, LoopTime, record

CONFIG = ReadConfig(min_interval=0.2, poll_interval=0.5, idle_poll_interval=2.0, idle_after=3.0)
ERRORS = [
    ThrottledError("planned"),
    TransientError("planned"),
    MalformedResponseError("planned"),
    ExpiredIteratorError("planned"),
]


class Calls:
    """`QuietApi` over a fake stream: a task makes the call and tells of its end.
    The status of an answer is the number of the task that has it.

    Attributes:
        asked: how many calls were made this way.
        room: how many calls more need not wait for something.
    """

    def __init__(self, kinesis: FakeKinesis) -> None:
        self.asked = 0
        self.room = math.inf
        self.kinesis = kinesis
        self._tasks: dict[int, asyncio.Task[GetRecordsResult]] = {}

    def ask_at_once(self, calls: Sequence[QuietCall]) -> int:
        taken = int(min(len(calls), self.room))
        self.room -= taken
        for iterator, limit, done in calls[:taken]:
            self.asked += 1
            task = asyncio.ensure_future(self.kinesis.get_records(iterator, limit))
            self._tasks[self.asked] = task
            task.add_done_callback(partial(self._tell, done, self.asked))
        return taken

    @staticmethod
    def _tell(done: Callable[[Answer | OSError], None], number: int, _: object) -> None:
        done((number, b""))

    def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
        assert not isinstance(outcome, OSError)
        return self._tasks.pop(outcome[0]).result()


class Rig:
    """A reader of an empty shard that has turned quiet, in virtual time."""

    def __init__(
        self, budget: ByteBudget | None = None, among: tuple[Calls, QuietShards] | None = None
    ) -> None:
        if among is None:
            calls = Calls(FakeKinesis(LoopTime()))
            among = calls, QuietShards(calls)
        self.calls, shards = among
        self.kinesis = self.calls.kinesis
        self.budget = budget or ByteBudget(1_000_000)
        self.reader = ShardReader(
            self.kinesis,
            SHARD,
            TRIM_HORIZON,
            self.budget,
            CONFIG,
            rng=random.Random(1),
            quiet=shards,
        )
        self.task = asyncio.create_task(self.reader.run())
        self.seen: list[str] = []

    async def turn_quiet(self) -> None:
        await asyncio.sleep(CONFIG.idle_after + 2 * CONFIG.idle_poll_interval)
        assert self.reader.statistics().mode is Mode.IDLE

    def put(self, count: int = 1) -> None:
        first = len(self.kinesis.records) + 1
        self.kinesis.records += [record(number) for number in range(first, first + count)]

    async def take(self, count: int) -> list[str]:
        """Take answers until `count` records were seen in all."""
        while len(self.seen) < count:
            fetched = await self.reader.next()
            self.seen += [each.sequence_number for each in fetched.records]
            self.reader.release(fetched)
        return self.seen

    async def end(self) -> None:
        self.reader.close()
        await self.task


def quietly(test: Callable[[Rig], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of a reader that has turned quiet."""

    async def main() -> None:
        rig = Rig()
        await rig.turn_quiet()
        assert rig.calls.asked > 0, "a quiet shard is polled from callbacks"
        await test(rig)
        await rig.end()
        assert rig.budget.statistics().reserved == 0
        assert rig.budget.statistics().kept == 0

    def run() -> None:
        virtual_time.run(main())

    run.__doc__ = test.__doc__
    return run


@quietly
async def test_a_quiet_shard_is_polled_at_its_interval(rig: Rig) -> None:
    before = len(rig.kinesis.calls)
    await asyncio.sleep(20 * CONFIG.idle_poll_interval)
    calls = rig.kinesis.calls[before:]
    assert len(calls) == 20
    gaps = [b - a for a, b in itertools.pairwise(calls)]
    assert gaps == pytest.approx([CONFIG.idle_poll_interval] * len(gaps), abs=GRID_S / 2)
    assert rig.reader.statistics().calls == len(rig.kinesis.calls)


@quietly
async def test_a_record_comes_within_the_interval_and_wakes_the_shard(rig: Rig) -> None:
    rig.put(3)
    async with asyncio.timeout(CONFIG.idle_poll_interval + GRID_S):
        fetched = await rig.reader.next()
    assert len(fetched.records) == 3, "all that one call may bring"
    rig.reader.release(fetched)
    assert rig.reader.statistics().mode is Mode.TIP
    found = rig.kinesis.calls[-1]
    await asyncio.sleep(CONFIG.poll_interval + 0.1)
    following = rig.kinesis.calls[rig.kinesis.calls.index(found) + 1]
    assert following - found == pytest.approx(CONFIG.poll_interval), "the call after that is paced"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_counted_and_nothing_is_lost(error: Exception) -> None:
    @quietly
    async def test(rig: Rig) -> None:
        rig.kinesis.failures = [error]
        rig.put(2)
        assert await rig.take(2) == ["1", "2"]
        counts = rig.reader.statistics()
        failed = (
            counts.throttles + counts.transient_errors + counts.malformed + counts.expired_iterators
        )
        assert failed == 1
        await rig.turn_quiet()
        assert rig.reader.statistics().mode is Mode.IDLE, "it is quiet again"

    test()


@quietly
async def test_the_end_of_the_shard_is_handed_over(rig: Rig) -> None:
    rig.kinesis.children = [ChildShard("shardId-1", [SHARD], HashKeyRange("0", "9"))]
    fetched = await rig.reader.next()
    assert fetched.is_end
    assert [child.shard_id for child in fetched.child_shards] == ["shardId-1"]
    rig.reader.release(fetched)


@quietly
async def test_a_refusal_for_good_reaches_the_consumer(rig: Rig) -> None:
    rig.kinesis.failures = [StreamError("no permission")]
    with pytest.raises(StreamError, match="no permission"):
        await rig.reader.next()


@quietly
async def test_a_rewind_reads_again_at_once(rig: Rig) -> None:
    rig.put()
    await rig.take(1)
    await rig.turn_quiet()
    rig.seen.clear()
    await rig.reader.rewind(TRIM_HORIZON)
    async with asyncio.timeout(CONFIG.idle_poll_interval):
        assert await rig.take(1) == ["1"]


@quietly
async def test_an_answer_that_a_rewind_overtook_is_dropped(rig: Rig) -> None:
    release = asyncio.Event()

    async def late() -> GetRecordsResult:
        await release.wait()
        return GetRecordsResult(records=[record(99)], next_shard_iterator="at-0")

    rig.kinesis.failures = [late]
    await asyncio.sleep(CONFIG.idle_poll_interval)
    assert not rig.kinesis.failures, "the call is under way"
    await rig.reader.rewind(Position("0"))
    release.set()
    rig.put()
    assert await rig.take(1) == ["1"]


@quietly
async def test_closing_ends_the_stretch_at_once(rig: Rig) -> None:
    began = virtual_time.now()
    rig.reader.close()
    await rig.task
    assert virtual_time.now() == began
    with pytest.raises(ReaderClosedError):
        await rig.reader.next()


@quietly
async def test_calls_that_would_have_to_wait_are_made_the_ordinary_way(rig: Rig) -> None:
    rig.calls.room = 0
    asked, calls = rig.calls.asked, len(rig.kinesis.calls)
    await asyncio.sleep(5 * CONFIG.idle_poll_interval)
    assert rig.calls.asked == asked
    assert len(rig.kinesis.calls) - calls == pytest.approx(5, abs=1), "at the same interval"
    rig.put()
    assert await rig.take(1) == ["1"]


@quietly
async def test_without_room_in_the_budget_a_poll_waits_for_it(rig: Rig) -> None:
    other = rig.budget.open()
    await other.reserve(1_000_000)
    other.settle(1_000_000)
    calls = len(rig.kinesis.calls)
    rig.put()
    await asyncio.sleep(5 * CONFIG.idle_poll_interval)
    assert len(rig.kinesis.calls) <= calls + 1, "the one under way"
    other.release(1_000_000)
    assert await rig.take(1) == ["1"]
    other.close()


def test_quiet_shards_wait_for_few_instants_and_hold_no_room_meanwhile() -> None:
    async def main() -> None:
        budget, calls = ByteBudget(100_000_000), Calls(FakeKinesis(LoopTime()))
        shards = QuietShards(calls)
        rigs = [Rig(budget, (calls, shards)) for _ in range(300)]
        for rig in rigs[:3]:
            await rig.turn_quiet()
        # From between two instants, so that each poll is clearly before or after.
        await asyncio.sleep(GRID_S * 1.5 - virtual_time.now() % GRID_S)
        assert budget.statistics().reserved == 0, "nothing is reserved between polls"
        began = virtual_time.now()
        before = [rig.reader.statistics().calls for rig in rigs]
        await asyncio.sleep(CONFIG.idle_poll_interval)
        instants = {call for call in calls.kinesis.calls if call > began}
        polls = [rig.reader.statistics().calls for rig in rigs]
        assert [after - earlier for earlier, after in zip(before, polls, strict=True)] == [1] * 300
        assert len(instants) <= CONFIG.idle_poll_interval / GRID_S + 1
        for rig in rigs:
            await rig.end()

    virtual_time.run(main())


def test_of_shards_that_are_due_together_only_those_without_room_wait() -> None:
    async def main() -> None:
        budget, calls = ByteBudget(100_000_000), Calls(FakeKinesis(LoopTime()))
        shards = QuietShards(calls)
        rigs = [Rig(budget, (calls, shards)) for _ in range(10)]
        await rigs[0].turn_quiet()
        await asyncio.sleep(GRID_S * 1.5 - virtual_time.now() % GRID_S)
        before, asked = [rig.reader.statistics().calls for rig in rigs], calls.asked
        calls.room = 4
        await asyncio.sleep(CONFIG.idle_poll_interval)
        assert calls.asked == asked + 4
        calls.room = math.inf
        polls = [rig.reader.statistics().calls for rig in rigs]
        assert [after - earlier for earlier, after in zip(before, polls, strict=True)] == [1] * 10
        calls.kinesis.records.append(record(1))
        for rig in rigs:
            assert await rig.take(1) == ["1"]
            await rig.end()
        assert budget.statistics().reserved == budget.statistics().kept == 0

    virtual_time.run(main())


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "fail", "rewind", "refuse"]), st.floats(0.0, 3.0)),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(steps=STEPS, error=st.sampled_from(ERRORS))
def test_whatever_happens_every_record_comes_in_order(
    steps: list[tuple[str, float]], error: Exception
) -> None:
    async def main() -> None:
        rig = Rig()
        await rig.turn_quiet()
        rewound = False
        for step, pause in steps:
            match step:
                case "put":
                    rig.put(2)
                case "fail":
                    rig.kinesis.failures.append(error)
                case "rewind":
                    await rig.reader.rewind(Position(rig.seen[-1]) if rig.seen else TRIM_HORIZON)
                    rewound = True
                case "refuse":
                    rig.calls.room = math.inf if rig.calls.room == 0 else 0
            await asyncio.sleep(pause)
            await rig.take(len(rig.kinesis.records) if step == "put" else len(rig.seen))
        expected = [each.sequence_number for each in rig.kinesis.records]
        assert await rig.take(len(expected)) == expected
        assert rig.reader.statistics().rewinds > 0 or not rewound
        await rig.end()
        assert rig.budget.statistics().reserved == 0

    virtual_time.run(main())


def test_each_poll_goes_on_from_the_answer_before() -> None:
    """An iterator is good for five minutes: a shard that is quiet for longer needs new ones."""

    class Numbered(Calls):
        def __init__(self) -> None:
            self.iterators: list[str] = []

        def ask_at_once(self, calls: Sequence[QuietCall]) -> int:
            for iterator, _, done in calls:
                self.iterators.append(iterator)
                asyncio.get_running_loop().call_soon(done, (200, b""))
            return len(calls)

        def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
            return GetRecordsResult(
                records=[], next_shard_iterator=f"iterator-{len(self.iterators)}"
            )

    async def main() -> None:
        calls = Numbered()
        quiet = Quiet(
            QuietShards(calls),
            ByteBudget(1_000).open(),
            interval=1.0,
            limit=10,
            expected=10,
            on_call=lambda: None,
        )
        quiet.begin("iterator-0")
        await asyncio.sleep(3.5)
        assert calls.iterators == [f"iterator-{n}" for n in range(4)]
        assert quiet.iterator == "iterator-4", "what the reader goes on from"
        quiet.news.cancel()

    virtual_time.run(main())
