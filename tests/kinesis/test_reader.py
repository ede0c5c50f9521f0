"""The reader over a fake stream, in virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import (
    ReaderClosedError,
)
from streamproc.kinesis.polling import Mode
from streamproc.position import LATEST, Position

from .fakes import record
from .reading import CHILD, numbers, reading, stream


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
