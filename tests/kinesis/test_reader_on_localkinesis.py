"""Readers over HTTP: faults of the wire and of the service, and resharding."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import StreamError
from streamproc.kinesis.api import PutEntry
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.kinesis.quiet import QuietShards
from streamproc.kinesis.reader import ShardReader
from streamproc.kinesis.reading import ReaderStatistics
from streamproc.position import TRIM_HORIZON, Position
from streamproc.testing import LocalKinesis

FIRST = "shardId-000000000000"
QUICK = ReadConfig(
    min_interval=0.001,
    poll_interval=0.005,
    idle_poll_interval=0.01,
    idle_after=0.001,
    timeout=0.25,
)


@pytest.fixture
async def client(local_kinesis: LocalKinesis) -> AsyncIterator[KinesisClient]:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    config = StreamConfig(name="orders", endpoint_url=local_kinesis.endpoint_url)
    async with open_kinesis(config, QUICK) as opened:
        yield opened


async def put(client: KinesisClient, first: int, last: int, size: int = 0) -> None:
    """Put records numbered from `first` up to `last`, spread over the hash keys."""
    for start in range(first, last + 1, 200):
        numbers = range(start, min(start + 200, last + 1))
        results = await client.put_records(
            [
                PutEntry(
                    data=b"%d" % number + b" " * size,
                    partition_key="k",
                    explicit_hash_key=str(spread(number)),
                )
                for number in numbers
            ]
        )
        assert all(result.error_code is None for result in results)


def spread(number: int) -> int:
    return int.from_bytes(hashlib.md5(b"%d" % number).digest())


async def until(holds: Callable[[], object]) -> None:
    """Let everybody work until something is so."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - counters have no event to wait for
            await asyncio.sleep(0)


async def no_time(seconds: float) -> None:
    """Wait for the others only: intervals and backoff are tested elsewhere."""
    assert seconds >= 0
    await asyncio.sleep(0)


def reader_of(
    client: KinesisClient, shard: str, start: Position = TRIM_HORIZON, *, budget: int = 1 << 26
) -> ShardReader:
    assert client.quiet is not None
    return ShardReader(
        client,
        shard,
        start,
        ByteBudget(budget),
        QUICK,
        sleep=no_time,
        quiet=QuietShards(client.quiet, 0.001),
    )


async def read(
    client: KinesisClient, shard: str, count: int, start: Position = TRIM_HORIZON
) -> tuple[list[int], ReaderStatistics]:
    """Read until `count` records came, and a little further to see that no more do."""
    reader = reader_of(client, shard, start)
    seen: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        while len(seen) < count:
            fetched = await reader.next()
            seen += [int(record.data) for record in fetched.records]
            reader.release(fetched)
        calls = reader.statistics().calls
        await until(lambda: reader.statistics().calls >= calls + 2)
        statistics = reader.statistics()
        task.cancel()
    return seen, statistics


FAULTS: dict[str, tuple[str, Callable[[LocalKinesis], object]]] = {
    "throttle": ("throttles", lambda k: k.faults.throttle(count=3)),
    "throttled key": (
        "throttles",
        lambda k: k.faults.error("GetRecords", code="KMSThrottlingException", count=3),
    ),
    "server error": ("transient_errors", lambda k: k.faults.server_error("GetRecords", count=3)),
    "dropped connection": (
        "transient_errors",
        lambda k: k.faults.drop_connection("GetRecords", count=3),
    ),
    "answer lost": (
        "transient_errors",
        lambda k: k.faults.drop_connection("GetRecords", count=3, applied=True),
    ),
    "truncated body": ("transient_errors", lambda k: k.faults.truncate_body(count=3)),
    "expired iterator": ("expired_iterators", lambda k: k.faults.expire_iterator(count=3)),
    "silence": ("transient_errors", lambda k: k.faults.latency("GetRecords", 1.0, count=3)),
    "no iterator": ("throttles", lambda k: k.faults.throttle("GetShardIterator", count=3)),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_counted_and_loses_and_doubles_nothing(
    local_kinesis: LocalKinesis, client: KinesisClient, fault: str
) -> None:
    await put(client, 1, 1_200)
    counter, plan = FAULTS[fault]
    plan(local_kinesis)
    seen, statistics = await read(client, FIRST, 1_200)
    assert seen == list(range(1, 1_201))
    assert getattr(statistics, counter) == 3
    assert local_kinesis.faults.fired == 3


async def test_faults_in_the_middle_of_a_shard_neither_lose_nor_double(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    config = ReadConfig(max_records=7, timeout=5.0)
    await put(client, 1, 500)
    faults = local_kinesis.faults
    faults.expire_iterator(skip=5, count=2)
    faults.truncate_body(skip=11)
    faults.throttle(skip=19, count=3)
    faults.server_error("GetRecords", skip=23, applied=True)
    faults.drop_connection("GetRecords", skip=29, applied=True)
    faults.expire_iterator(skip=31)
    reader = ShardReader(client, FIRST, TRIM_HORIZON, ByteBudget(1 << 26), config, sleep=no_time)
    seen: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        while len(seen) < 500:
            fetched = await reader.next()
            seen += [int(record.data) for record in fetched.records]
            reader.release(fetched)
        task.cancel()
    assert seen == list(range(1, 501))
    assert faults.fired == 9
    assert reader.statistics().expired_iterators == 3


async def test_reading_goes_on_after_a_position(client: KinesisClient) -> None:
    await put(client, 1, 10)
    answer = await client.get_records(await client.shard_iterator(FIRST, TRIM_HORIZON), 10)
    seen, _ = await read(client, FIRST, 6, Position(answer.records[3].sequence_number))
    assert seen == [5, 6, 7, 8, 9, 10]


async def test_a_worker_that_lost_its_server_goes_on_when_it_is_back(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    await put(client, 1, 3)
    reader = reader_of(client, FIRST)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        reader.release(await reader.next())
        await local_kinesis.stop()
        await until(lambda: reader.statistics().transient_errors)
        await local_kinesis.start()
        await put(client, 4, 5)
        fetched = await reader.next()
        assert [int(record.data) for record in fetched.records] == [4, 5]
        task.cancel()


async def follow(client: KinesisClient, shard: str, count: int) -> dict[str, list[int]]:
    """Read a shard and what comes after it, parents first, until `count` records were seen."""
    found: dict[str, list[int]] = {}
    ended: set[str] = set()
    ready = [shard]
    while sum(map(len, found.values())) < count:
        name = ready.pop()
        found[name] = []
        reader = reader_of(client, name)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(reader.run())
            while name not in ended and sum(map(len, found.values())) < count:
                fetched = await reader.next()
                found[name] += [int(record.data) for record in fetched.records]
                reader.release(fetched)
                if fetched.is_end:
                    ended.add(name)
                    ready += [
                        child.shard_id
                        for child in fetched.child_shards
                        if ended.issuperset(child.parent_shards)
                    ]
            task.cancel()
    return found


async def test_a_split_and_a_merge_are_followed_through_the_children(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    left, right, merged = (f"shardId-{number:012d}" for number in (1, 2, 3))
    middle = 2**127
    await put(client, 1, 100)
    local_kinesis.core.call(
        "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(middle)
    )
    await put(client, 101, 200)
    local_kinesis.core.call(
        "MergeShards", StreamName="orders", ShardToMerge=left, AdjacentShardToMerge=right
    )
    await put(client, 201, 300)

    found = await follow(client, FIRST, 300)

    second = range(101, 201)
    assert found[FIRST] == list(range(1, 101))
    assert found[left] == [number for number in second if spread(number) < middle]
    assert found[right] == [number for number in second if spread(number) >= middle]
    assert found[merged] == list(range(201, 301))
    assert list(found) == [FIRST, right, left, merged]


async def test_a_shard_split_while_it_is_read_ends_behind_its_last_record(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    await put(client, 1, 5)
    reader = reader_of(client, FIRST)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run())
        first = await reader.next()
        assert not first.is_end
        local_kinesis.core.call(
            "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(2**127)
        )
        await put(client, 6, 9)
        last = await reader.next()
        assert (last.records, last.is_end) == ([], True)
        assert [child.shard_id[-1] for child in last.child_shards] == ["1", "2"]
        reader.close()
    assert [int(record.data) for record in first.records] == [1, 2, 3, 4, 5]


async def test_a_slow_consumer_keeps_memory_within_the_budget(client: KinesisClient) -> None:
    await put(client, 1, 2_000, size=2_000)
    budget = ByteBudget(500_000)
    config = ReadConfig(max_records=50)
    reader = ShardReader(client, FIRST, TRIM_HORIZON, budget, config, sleep=no_time)
    seen: list[int] = []
    largest = 0
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        while len(seen) < 2_000:
            fetched = await reader.next()
            largest = max(largest, fetched.bytes)
            for _ in range(20):
                await asyncio.sleep(0)
            seen += [int(record.data) for record in fetched.records]
            reader.release(fetched)
        task.cancel()
    assert seen == list(range(1, 2_001))
    assert largest > 100_000
    assert budget.statistics().peak <= 500_000 + largest


async def test_many_readers_share_a_small_budget_and_all_get_through(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    local_kinesis.core.call("CreateStream", StreamName="wide", ShardCount=20)
    budget = ByteBudget(400_000)
    seen: list[int] = []
    config = StreamConfig(name="wide", endpoint_url=local_kinesis.endpoint_url)
    async with open_kinesis(config, QUICK) as wide:
        await put(wide, 1, 4_000, size=300)
        readers = [
            ShardReader(wide, shard.shard_id, TRIM_HORIZON, budget, QUICK, sleep=no_time)
            for shard in await wide.list_shards()
        ]

        async def consume(reader: ShardReader) -> None:
            while True:
                fetched = await reader.next()
                seen.extend(int(record.data) for record in fetched.records)
                reader.release(fetched)

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(reader.run()) for reader in readers]
            running += [tasks.create_task(consume(reader)) for reader in readers]
            await until(lambda: len(seen) == 4_000)
            for task in running:
                task.cancel()
    assert sorted(seen) == list(range(1, 4_001))
    assert budget.statistics().kept == 0
    assert budget.statistics().accounts == 0


async def test_a_deleted_stream_is_told_to_the_consumer(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    reader = reader_of(client, FIRST)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run())
        await until(lambda: reader.statistics().calls)
        local_kinesis.core.call("DeleteStream", StreamName="orders")
        with pytest.raises(StreamError, match="'orders'"):
            await reader.next()


async def test_a_shard_whose_retention_passed_it_by_ends() -> None:
    now = 2_000_000_000.0
    async with LocalKinesis(clock=lambda: now) as kinesis:
        kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
        kinesis.core.call(
            "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(2**127)
        )
        now += 200_000
        config = StreamConfig(name="orders", endpoint_url=kinesis.endpoint_url)
        async with open_kinesis(config, QUICK) as client:
            assert FIRST not in [shard.shard_id for shard in await client.list_shards()]
            reader = reader_of(client, FIRST)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reader.run())
                last = await reader.next()
                reader.close()
    assert (last.records, last.is_end) == ([], True)
    # They live on and name the shard as their parent.
    assert [child.shard_id[-1] for child in last.child_shards] == ["1", "2"]


async def test_an_iterator_that_grew_old_on_the_server_is_replaced() -> None:
    now = 2_000_000_000.0
    async with LocalKinesis(clock=lambda: now) as kinesis:
        kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
        config = StreamConfig(name="orders", endpoint_url=kinesis.endpoint_url)
        async with open_kinesis(config, QUICK) as client:
            await put(client, 1, 60, size=2_000)
            read = ReadConfig(max_records=20)
            budget = ByteBudget(70_000)
            reader = ShardReader(client, FIRST, TRIM_HORIZON, budget, read, sleep=no_time)
            seen: list[int] = []
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reader.run())
                fetched = await reader.next()
                await until(lambda: budget.statistics().waiting)
                now += 301
                while True:
                    seen += [int(record.data) for record in fetched.records]
                    reader.release(fetched)
                    if len(seen) >= 60:
                        break
                    fetched = await reader.next()
                reader.close()
            assert seen == list(range(1, 61))
            assert reader.statistics().expired_iterators == 1
