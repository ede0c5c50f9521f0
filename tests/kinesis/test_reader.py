"""The reader over a fake stream, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    MalformedResponseError,
    NotFoundError,
    ReaderClosedError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.polling import Mode
from streamproc.kinesis.reader import Fetched, ShardReader
from streamproc.kinesis.records import ChildShard, HashKeyRange, Record
from streamproc.position import LATEST, TRIM_HORIZON, Position

from .fakes import SHARD, FakeKinesis, VirtualTime, record
from .kpl import User, aggregate, hash_of

CONFIG = ReadConfig(min_interval=0.2, poll_interval=0.5, idle_poll_interval=2.0, idle_after=30.0)
CHILD = ChildShard("shardId-000000000001", [SHARD], HashKeyRange("0", "9"))


@dataclass
class Rig:
    """A reader at work on a fake stream, and what a consumer does with it."""

    kinesis: FakeKinesis
    time: VirtualTime
    budget: ByteBudget
    reader: ShardReader
    task: asyncio.Task[None]
    seen: list[int] = field(default_factory=list)

    async def take(self) -> Fetched:
        """Take the next answer and let go of it at once."""
        fetched = await self.reader.next()
        self.seen += numbers(fetched)
        self.reader.release(fetched)
        return fetched

    async def take_records(self, count: int) -> list[int]:
        """Take answers until `count` records were seen in all."""
        while len(self.seen) < count:
            await self.take()
        return self.seen

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the reader work until something is so."""
        for _ in range(50_000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to be")

    async def until_it_waits(self) -> None:
        """Let the reader work until it waits for room or for its consumer."""
        calls = -1
        while calls != len(self.kinesis.calls):
            calls = len(self.kinesis.calls)
            for _ in range(20):
                await asyncio.sleep(0)


@asynccontextmanager
async def reading(
    kinesis: FakeKinesis,
    start: Position = TRIM_HORIZON,
    *,
    budget: int = 1_000_000,
    config: ReadConfig = CONFIG,
    hash_range: HashKeyRange | None = None,
) -> AsyncIterator[Rig]:
    shared = ByteBudget(budget)
    reader = ShardReader(
        kinesis,
        SHARD,
        start,
        shared,
        config,
        hash_range=hash_range,
        clock=kinesis.time.clock,
        wall_clock=lambda: 5_000.0,
        sleep=kinesis.time.sleep,
        rng=random.Random(1),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        yield Rig(kinesis, kinesis.time, shared, reader, task)
        task.cancel()
    assert shared.statistics().accounts == 0


def stream(count: int = 0, **settings: int) -> FakeKinesis:
    return FakeKinesis(VirtualTime(), count=count, **settings)


def numbers(fetched: Fetched) -> list[int]:
    return [int(record.sequence_number) for record in fetched.records]


async def test_records_come_in_order_with_their_lag() -> None:
    async with reading(stream(7)) as rig:
        first = await rig.take()
        assert numbers(first) == [1, 2, 3]
        assert first.millis_behind_latest == 1_000
        assert first.bytes == 100
        assert not first.is_end
        assert numbers(await rig.take()) == [4, 5, 6]
        last = await rig.take()
        assert numbers(last) == [7]
        assert last.millis_behind_latest == 0
        assert first.fetched_at < last.fetched_at <= rig.time.now


async def test_a_start_position_means_after_that_record() -> None:
    async with reading(stream(5), Position("3")) as rig:
        assert await rig.take_records(2) == [4, 5]
    async with reading(stream(5), LATEST) as rig:
        await rig.until(lambda: len(rig.kinesis.calls) > 1)
        rig.kinesis.records.append(record(6))
        assert await rig.take_records(1) == [6]


async def test_calls_are_paced_by_where_the_shard_is() -> None:
    kinesis = stream(9)
    async with reading(kinesis) as rig:
        await rig.take_records(9)
        await rig.until(lambda: rig.reader.statistics().mode is Mode.IDLE)
        await rig.until(lambda: len(kinesis.calls) > 75)
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(kinesis.calls)]
    assert gaps[:2] == [0.2, 0.2]
    assert gaps[2:10] == [0.5] * 8
    assert gaps[-5:] == [2.0] * 5
    assert 1_000.0 <= kinesis.calls[0] <= 1_000.5


async def test_empty_answers_move_the_lag_but_wake_nobody() -> None:
    kinesis = stream(1)
    async with reading(kinesis) as rig:
        assert rig.reader.statistics().millis_behind_latest is None
        await rig.take()
        waiting = asyncio.create_task(rig.reader.next())
        await rig.until(lambda: len(kinesis.calls) > 10)
        assert not waiting.done()
        assert rig.reader.statistics().millis_behind_latest == 0
        assert rig.budget.statistics().kept == 0
        kinesis.records.append(record(2))
        assert numbers(await waiting) == [2]


async def test_the_end_of_a_shard_comes_after_its_records_with_the_children() -> None:
    kinesis = stream(4)
    kinesis.children = [CHILD]
    async with reading(kinesis) as rig:
        assert not (await rig.take()).is_end
        last = await rig.take()
        assert numbers(last) == [4]
        assert last.is_end
        assert last.child_shards == [CHILD]
        await rig.until_it_waits()
        assert len(kinesis.calls) == 2
        assert rig.reader.statistics().mode is Mode.ENDED


async def test_an_empty_closed_shard_ends_too() -> None:
    kinesis = stream(0)
    kinesis.children = [CHILD]
    async with reading(kinesis) as rig:
        only = await rig.take()
        assert (only.records, only.is_end, only.child_shards) == ([], True, [CHILD])
        assert rig.budget.statistics().kept == 0


FAILURES = {
    "throttles": ThrottledError("planned"),
    "transient_errors": TransientError("planned"),
    "malformed": MalformedResponseError("planned"),
    "expired_iterators": ExpiredIteratorError("planned"),
}


@pytest.mark.parametrize("counter", FAILURES)
async def test_failures_are_counted_waited_out_and_lose_nothing(counter: str) -> None:
    kinesis = stream(9)
    async with reading(kinesis) as rig:
        await rig.take()
        kinesis.failures += [FAILURES[counter]] * 4
        assert await rig.take_records(9) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        statistics = rig.reader.statistics()
    assert getattr(statistics, counter) == 4
    assert sum(getattr(statistics, other) for other in FAILURES) == 4
    assert statistics.records == 9

    gaps = [b - a for a, b in itertools.pairwise(kinesis.calls)]
    failed = max(range(len(gaps)), key=gaps.__getitem__)
    assert 0.8 <= gaps[failed] <= 1.6
    assert min(gaps) >= 0.2 - 1e-9


async def test_an_expired_iterator_goes_on_after_the_last_record_that_was_fetched() -> None:
    kinesis = stream(6)
    async with reading(kinesis) as rig:
        await rig.until(lambda: rig.reader.statistics().records == 3)
        kinesis.failures.append(ExpiredIteratorError("planned"))
        assert await rig.take_records(6) == [1, 2, 3, 4, 5, 6]
    assert kinesis.positions == [TRIM_HORIZON, Position("3")]


async def test_an_iterator_that_expires_before_any_record_goes_back_to_the_start() -> None:
    kinesis = stream(2)
    kinesis.failures.append(ExpiredIteratorError("planned"))
    async with reading(kinesis, Position("1", sub=4)) as rig:
        assert await rig.take_records(1) == [2]
    assert kinesis.positions == [Position("1", sub=4)] * 2


async def test_an_iterator_at_latest_that_expires_leaves_no_gap() -> None:
    kinesis = stream(0)
    async with reading(kinesis, LATEST) as rig:
        await rig.until(lambda: len(kinesis.calls) == 3)
        kinesis.records.append(record(1))
        kinesis.failures.append(ExpiredIteratorError("planned"))
        assert await rig.take_records(1) == [1]
    assert kinesis.positions == [LATEST, Position("AT_TIMESTAMP", timestamp=4_999.0)]


async def test_a_failed_shard_iterator_is_asked_for_again() -> None:
    kinesis = stream(3)
    ask = kinesis.shard_iterator
    failures = [ThrottledError("planned"), TransientError("planned")]

    async def flaky(shard_id: str, position: Position, *, inclusive: bool = False) -> str:
        if failures:
            raise failures.pop()
        return await ask(shard_id, position, inclusive=inclusive)

    kinesis.shard_iterator = flaky  # type: ignore[method-assign]
    async with reading(kinesis) as rig:
        assert await rig.take_records(3) == [1, 2, 3]
        assert rig.reader.statistics().throttles == 1
        assert rig.reader.statistics().transient_errors == 1


def answering(result: GetRecordsResult) -> Callable[[], asyncio.Future[GetRecordsResult]]:
    def answer() -> asyncio.Future[GetRecordsResult]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(result)
        return future

    return answer


async def test_an_open_shard_that_seems_to_end_is_asked_again() -> None:
    kinesis = stream(3)
    kinesis.failures.append(answering(GetRecordsResult(records=[record(1)])))
    async with reading(kinesis) as rig:
        assert not (await rig.take()).is_end
        assert rig.seen == [1, 2, 3]
        assert rig.reader.statistics().malformed == 1


async def test_a_closed_shard_that_names_no_children_has_those_of_the_listing() -> None:
    kinesis = stream(3)
    (shard,) = kinesis.shards
    child = msgspec.structs.replace(shard, shard_id=CHILD.shard_id, parents=(SHARD,))
    other = msgspec.structs.replace(shard, shard_id="shardId-000000000002", parents=("else",))
    kinesis.shards = [
        msgspec.structs.replace(shard, ending_sequence_number="3"),
        child,
        other,
    ]
    kinesis.children = []
    async with reading(kinesis) as rig:
        last = await rig.take()
    assert numbers(last) == [1, 2, 3]
    assert last.is_end
    assert last.child_shards == [CHILD]


async def test_a_trimmed_shard_ends_without_records() -> None:
    kinesis = stream(3)
    kinesis.shards = []
    async with reading(kinesis) as rig:
        last = await rig.take()
    assert (last.records, last.is_end, last.child_shards) == ([], True, [])


async def test_a_shard_trimmed_while_it_is_read_ends_after_what_was_read() -> None:
    kinesis = stream(5)
    async with reading(kinesis) as rig:
        await rig.take()
        kinesis.shards = []
        kinesis.failures.append(NotFoundError("planned"))
        last = await rig.take()
    assert rig.seen == [1, 2, 3]
    assert last.is_end


async def test_a_listed_shard_that_is_not_found_is_asked_for_again() -> None:
    kinesis = stream(3)
    kinesis.failures.append(NotFoundError("planned"))
    async with reading(kinesis) as rig:
        assert await rig.take_records(3) == [1, 2, 3]
        assert rig.reader.statistics().transient_errors == 1


async def test_a_vanished_stream_is_an_error_after_what_was_read() -> None:
    kinesis = stream(3)
    async with reading(kinesis) as rig:
        await rig.until(lambda: rig.reader.statistics().records == 3)
        kinesis.exists = False
        kinesis.failures.append(NotFoundError("planned"))
        await rig.until(rig.task.done)
        assert numbers(await rig.take()) == [1, 2, 3]
        for _ in range(2):
            with pytest.raises(StreamError, match="no stream"):
                await rig.reader.next()
        assert rig.budget.statistics().kept == 0


async def test_a_waiting_consumer_gets_the_error() -> None:
    kinesis = stream(0)
    async with reading(kinesis) as rig:
        waiting = asyncio.create_task(rig.reader.next())
        await rig.until(lambda: len(kinesis.calls) == 2)
        kinesis.failures.append(StreamError("access denied"))
        with pytest.raises(StreamError, match="access denied"):
            await waiting


async def test_reading_ahead_stops_when_the_budget_is_used_and_goes_on_when_it_is_freed() -> None:
    kinesis = stream(300, per_call=1)
    kinesis.answer_bytes = 100_000
    async with reading(kinesis, budget=1_000_000) as rig:
        await rig.until_it_waits()
        # Each call reserves twice the last answer's size.
        assert len(kinesis.calls) == 9
        held = [await rig.reader.next() for _ in range(9)]
        await rig.until_it_waits()
        assert len(kinesis.calls) == 9
        rig.reader.release(held[0])
        await rig.until_it_waits()
        assert len(kinesis.calls) == 10
        for fetched in held[1:]:
            rig.reader.release(fetched)
        rig.seen += [number for fetched in held for number in numbers(fetched)]
        assert await rig.take_records(300) == list(range(1, 301))
        assert rig.budget.statistics().peak <= 1_000_000


async def test_an_answer_that_outgrows_what_was_expected_is_the_only_excess() -> None:
    kinesis = stream(50, per_call=1)
    kinesis.answer_bytes = 100
    async with reading(kinesis, budget=200_000) as rig:
        await rig.take_records(3)
        kinesis.answer_bytes = 190_000
        await rig.until_it_waits()
        statistics = rig.budget.statistics()
        assert 190_000 <= statistics.kept <= statistics.capacity + 190_000
        calls = len(kinesis.calls)
        await rig.until_it_waits()
        assert len(kinesis.calls) == calls
        assert await rig.take_records(50) == list(range(1, 51))
        assert rig.budget.statistics().peak <= 200_000 + 190_000


async def test_an_answer_larger_than_the_whole_budget_still_passes() -> None:
    kinesis = stream(5, per_call=1)
    kinesis.answer_bytes = 5_000
    async with reading(kinesis, budget=1_000) as rig:
        assert await rig.take_records(5) == [1, 2, 3, 4, 5]


async def test_an_iterator_that_expires_while_the_reader_waits_for_room_loses_nothing() -> None:
    kinesis = stream(6)
    kinesis.answer_bytes = 90_000
    async with reading(kinesis, budget=100_000) as rig:
        await rig.until_it_waits()
        assert len(kinesis.calls) == 1
        kinesis.time.now += 600
        kinesis.failures.append(ExpiredIteratorError("planned"))
        assert await rig.take_records(6) == [1, 2, 3, 4, 5, 6]
        assert rig.reader.statistics().expired_iterators == 1


async def test_one_stuck_shard_does_not_stop_another() -> None:
    shared = ByteBudget(1_000_000)
    time = VirtualTime()
    stuck, lively = (FakeKinesis(time, count=500, per_call=1) for _ in range(2))
    stuck.answer_bytes = lively.answer_bytes = 50_000
    async with asyncio.TaskGroup() as tasks:
        readers = [
            ShardReader(
                kinesis, SHARD, TRIM_HORIZON, shared, CONFIG, clock=time.clock, sleep=time.sleep
            )
            for kinesis in (stuck, lively)
        ]
        running = [tasks.create_task(reader.run()) for reader in readers]
        seen = 0
        while seen < 500:
            fetched = await readers[1].next()
            seen += len(fetched.records)
            readers[1].release(fetched)
        assert readers[0].statistics().prefetched_bytes <= 500_000
        for task in running:
            task.cancel()


async def test_rewind_discards_what_is_buffered_and_reads_again_from_there() -> None:
    kinesis = stream(12)
    async with reading(kinesis) as rig:
        assert numbers(await rig.take()) == [1, 2, 3]
        await rig.until(lambda: len(kinesis.calls) >= 3)
        await rig.reader.rewind(Position("1"))
        assert rig.budget.statistics().kept == 0
        rig.seen.clear()
        assert await rig.take_records(11) == list(range(2, 13))
        assert rig.reader.statistics().rewinds == 1


async def test_rewind_discards_the_call_under_way() -> None:
    kinesis = stream(6)
    answered: asyncio.Future[GetRecordsResult] = asyncio.get_running_loop().create_future()
    kinesis.failures.append(lambda: answered)
    async with reading(kinesis) as rig:
        await rig.until(lambda: len(kinesis.calls) == 1 and not kinesis.failures)
        await rig.reader.rewind(Position("4"))
        answered.set_result(GetRecordsResult(records=[record(1)], next_shard_iterator="at-1"))
        assert await rig.take_records(2) == [5, 6]


async def test_rewind_discards_an_iterator_under_way() -> None:
    kinesis = stream(6)
    begin = kinesis.shard_iterator
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def slow(shard_id: str, position: Position, *, inclusive: bool = False) -> str:
        iterator = await begin(shard_id, position, inclusive=inclusive)
        return iterator if position != TRIM_HORIZON else await answered

    kinesis.shard_iterator = slow  # type: ignore[method-assign]
    async with reading(kinesis) as rig:
        await rig.until(lambda: bool(kinesis.positions))
        await rig.reader.rewind(Position("4"))
        answered.set_result("at-0")
        assert await rig.take_records(2) == [5, 6]


async def test_rewind_frees_the_room_that_the_reader_waits_for() -> None:
    kinesis = stream(30)
    kinesis.answer_bytes = 90_000
    async with reading(kinesis, budget=100_000) as rig:
        await rig.until_it_waits()
        assert len(kinesis.calls) == 1
        await rig.reader.rewind(Position("20"))
        assert await rig.take_records(10) == list(range(21, 31))


async def test_rewind_brings_a_reader_back_from_the_end_of_its_shard() -> None:
    kinesis = stream(4)
    kinesis.children = [CHILD]
    async with reading(kinesis) as rig:
        await rig.take_records(4)
        await rig.until_it_waits()
        await rig.reader.rewind(Position("2"))
        last = await rig.take()
        assert rig.seen == [1, 2, 3, 4, 3, 4]
        assert last.is_end


async def test_what_was_handed_out_before_a_rewind_counts_until_it_is_released() -> None:
    async with reading(stream(3)) as rig:
        fetched = await rig.reader.next()
        await rig.reader.rewind(TRIM_HORIZON)
        assert rig.budget.statistics().kept >= fetched.bytes
        rig.reader.release(fetched)
        await rig.take()
        assert rig.seen == [1, 2, 3]


async def test_a_closed_reader_tells_its_consumer_and_holds_nothing() -> None:
    kinesis = stream(30)
    async with reading(kinesis) as rig:
        handed_out = await rig.reader.next()
        await rig.until(lambda: rig.reader.statistics().records >= 9)
        rig.reader.close()
        with pytest.raises(ReaderClosedError):
            await rig.reader.next()
        await rig.task
        calls = len(kinesis.calls)
        await rig.until_it_waits()
        assert len(kinesis.calls) == calls
        assert rig.budget.statistics().kept == handed_out.bytes
        rig.reader.release(handed_out)
        assert rig.budget.statistics().kept == 0


async def test_closing_discards_the_call_under_way() -> None:
    kinesis = stream(6)
    answered: asyncio.Future[GetRecordsResult] = asyncio.get_running_loop().create_future()
    kinesis.failures.append(lambda: answered)
    async with reading(kinesis) as rig:
        await rig.until(lambda: len(kinesis.calls) == 1 and not kinesis.failures)
        rig.reader.close()
        answered.set_result(GetRecordsResult(records=[record(1)], next_shard_iterator="at-1"))
        await rig.task
        assert rig.budget.statistics().kept == 0
        with pytest.raises(ReaderClosedError):
            await rig.reader.next()


async def test_a_cancelled_reader_wakes_its_consumer() -> None:
    async with reading(stream(0)) as rig:
        waiting = asyncio.create_task(rig.reader.next())
        await rig.until(lambda: len(rig.kinesis.calls) == 1)
        rig.task.cancel()
        with pytest.raises(ReaderClosedError):
            await waiting
        assert rig.budget.statistics().kept == 0


failures = st.sampled_from(
    [
        ThrottledError("planned"),
        TransientError("planned"),
        MalformedResponseError("planned"),
        ExpiredIteratorError("planned"),
        NotFoundError("planned"),
    ]
)


@given(
    count=st.integers(0, 40),
    per_call=st.integers(1, 7),
    start=st.integers(0, 40),
    budget=st.integers(1, 400_000),
    answer_bytes=st.integers(1, 100_000),
    plan=st.lists(st.none() | failures, max_size=40),
    rewinds=st.lists(st.tuples(st.integers(1, 15), st.integers(0, 40)), max_size=3),
)
def test_whatever_fails_every_record_comes_once_and_in_order(
    count: int,
    per_call: int,
    start: int,
    budget: int,
    answer_bytes: int,
    plan: list[Exception | None],
    rewinds: list[tuple[int, int]],
) -> None:
    async def play() -> None:
        kinesis = stream(count, per_call=per_call)
        kinesis.children = [CHILD]
        kinesis.answer_bytes = answer_bytes
        answer = kinesis.get_records
        steps = iter(plan)

        async def flaky(iterator: str, limit: int) -> GetRecordsResult:
            step = next(steps, None)
            if step is not None:
                raise step
            return await answer(iterator, limit)

        kinesis.get_records = flaky  # type: ignore[method-assign]
        begin = min(start, count)
        after = Position(str(begin)) if begin else TRIM_HORIZON
        async with reading(kinesis, after, budget=budget) as rig:
            expected = begin + 1
            planned = list(rewinds)
            taken = 0
            while True:
                fetched = await rig.take()
                taken += 1
                assert numbers(fetched) == list(range(expected, expected + len(fetched.records)))
                expected += len(fetched.records)
                if planned and taken >= planned[0][0]:
                    back = min(planned.pop(0)[1], expected - 1)
                    await rig.reader.rewind(Position(str(back)) if back else TRIM_HORIZON)
                    expected = back + 1
                elif fetched.is_end:
                    break
            assert expected == count + 1
            assert rig.budget.statistics().peak <= budget + answer_bytes

    asyncio.run(play())


def packed(number: int, *keys: str) -> Record:
    """Return record `number`, an aggregate of one user record for each key."""
    users = [User(key, b"%d" % at) for at, key in enumerate(keys)]
    return Record(str(number), 1.5, aggregate(users), "whole")


def places(fetched: Fetched) -> list[tuple[str, int]]:
    return [(record.sequence_number, record.sub) for record in fetched.records]


@pytest.mark.parametrize("passed", range(3))
async def test_a_reader_goes_on_inside_an_aggregate(passed: int) -> None:
    kinesis = stream(2)
    kinesis.records.insert(1, packed(2, "a", "b", "c"))
    kinesis.records[2] = record(3)
    async with reading(kinesis, Position("2", passed)) as rig:
        assert places(await rig.take()) == [("2", sub) for sub in range(passed + 1, 3)] + [("3", 0)]
        assert rig.reader.statistics().aggregates == 1


async def test_an_aggregate_that_was_read_is_not_read_again_when_an_iterator_expires() -> None:
    kinesis = stream(1, per_call=1)
    kinesis.records.append(packed(2, "a", "b"))
    kinesis.records.append(record(3))
    async with reading(kinesis) as rig:
        await rig.until(lambda: rig.reader.statistics().records == 3)
        kinesis.failures.append(ExpiredIteratorError("planned"))
        taken = [place for _ in range(3) for place in places(await rig.take())]
        assert taken == [("1", 0), ("2", 0), ("2", 1), ("3", 0)]


@pytest.mark.parametrize(("mode", "kept"), [("drop", 1), ("keep", 2)])
async def test_what_belongs_to_another_shard_is_dropped_or_kept(
    mode: Literal["drop", "keep"], kept: int
) -> None:
    kinesis = stream(0)
    keys = sorted("abcdefgh", key=hash_of)
    kinesis.records.append(packed(1, keys[0], keys[-1]))
    kinesis.records.append(record(2))
    middle = HashKeyRange("0", str(hash_of(keys[0])))
    config = msgspec.structs.replace(CONFIG, out_of_range=mode)
    async with reading(kinesis, config=config, hash_range=middle) as rig:
        fetched = await rig.take()
        assert places(fetched) == [("1", sub) for sub in range(kept)] + [("2", 0)]
        statistics = rig.reader.statistics()
        assert statistics.out_of_range == 2 - kept
        assert statistics.records == kept + 1


async def test_an_answer_of_nothing_but_strays_is_passed_over() -> None:
    kinesis = stream(0, per_call=1)
    kinesis.records += [packed(1, "a"), record(2)]
    elsewhere = HashKeyRange(str(hash_of("a") + 1), str(hash_of("a") + 1))
    async with reading(kinesis, hash_range=elsewhere) as rig:
        assert places(await rig.take()) == [("2", 0)]
        assert rig.reader.statistics().out_of_range == 1
