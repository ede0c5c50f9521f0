"""The reader when Kinesis fails or ends: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import StreamError
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    MalformedResponseError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from streamproc.position import LATEST, TRIM_HORIZON, Position

from .fakes import SHARD, record
from .reading import CHILD, numbers, reading, stream

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
