"""The reader and the budget of bytes that it reads ahead by."""

from __future__ import annotations

import asyncio

from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
)
from streamproc.kinesis.reader import ShardReader
from streamproc.position import TRIM_HORIZON

from .fakes import SHARD, FakeKinesis, VirtualTime
from .reading import CONFIG, numbers, reading, stream


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
