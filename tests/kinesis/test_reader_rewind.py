"""A reader that is sent back to a place it has passed."""

from __future__ import annotations

import asyncio

from streamproc.kinesis.codec import GetRecordsResult
from streamproc.position import TRIM_HORIZON, Position

from .fakes import record
from .reading import CHILD, numbers, reading, stream


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
