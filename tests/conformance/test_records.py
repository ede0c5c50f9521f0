"""Putting and getting records: routing, order, iterators, limits."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest

from .conftest import TOP_HASH, Kinesis, hash_range, refused

MIB = 1024 * 1024
large_bodies = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
SHARD = "shardId-000000000000"


async def test_a_record_comes_back_as_it_was_put(kinesis: Kinesis) -> None:
    await kinesis.create()
    data, key = bytes(range(256)), 'a "quoted" \\ key / in ünïcode'
    put = await kinesis.put(data, key)
    records, _ = await kinesis.read_shard(SHARD)
    assert [(r["Data"], r["PartitionKey"], r["SequenceNumber"]) for r in records] == [
        (data, key, put["SequenceNumber"])
    ]
    age = dt.datetime.now(dt.UTC) - records[0]["ApproximateArrivalTimestamp"]
    assert abs(age) < dt.timedelta(minutes=1)


async def test_sequence_numbers_are_56_digits_and_grow(kinesis: Kinesis) -> None:
    await kinesis.create()
    texts = [(await kinesis.put(b"1"))["SequenceNumber"] for _ in range(5)]
    answer = await kinesis.put_many([("key", b"2")] * 5)
    texts += [record["SequenceNumber"] for record in answer["Records"]]
    assert {len(text) for text in texts} == {56}
    assert sorted(set(texts)) == texts


async def test_a_partition_key_is_routed_by_its_md5(kinesis: Kinesis) -> None:
    await kinesis.create(shards=4)
    ranges = {shard["ShardId"]: hash_range(shard) for shard in await kinesis.shards()}
    keys = [f"key-{i}" for i in range(40)]
    answer = await kinesis.put_many([(key, b"1") for key in keys])
    assert answer["FailedRecordCount"] == 0
    for key, record in zip(keys, answer["Records"], strict=True):
        start, end = ranges[record["ShardId"]]
        assert start <= int(hashlib.md5(key.encode()).hexdigest(), 16) <= end
    assert len({record["ShardId"] for record in answer["Records"]}) == 4


@pytest.mark.parametrize(
    ("hash_key", "shard"),
    [("0", 0), (str(2**127 - 1), 0), (str(2**127), 1), (str(TOP_HASH), 1)],
)
async def test_an_explicit_hash_key_overrides_the_partition_key(
    kinesis: Kinesis, hash_key: str, shard: int
) -> None:
    await kinesis.create(shards=2)
    put = await kinesis.put(b"1", ExplicitHashKey=hash_key)
    assert put["ShardId"] == f"shardId-{shard:012d}"


async def test_an_explicit_hash_key_beyond_the_range_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("InvalidArgumentException"):
        await kinesis.put(b"1", ExplicitHashKey=str(TOP_HASH + 1))


async def test_sequence_number_for_ordering_must_be_a_sequence_number(kinesis: Kinesis) -> None:
    await kinesis.create()
    first = await kinesis.put(b"1")
    await kinesis.put(b"2", SequenceNumberForOrdering=first["SequenceNumber"])
    with refused("InvalidArgumentException", "ValidationException"):
        await kinesis.put(b"3", SequenceNumberForOrdering="not a number")
    assert await kinesis.read_from(SHARD) == [b"1", b"2"]


async def test_put_records_keeps_order_and_takes_500(kinesis: Kinesis) -> None:
    await kinesis.create()
    answer = await kinesis.put_many([("key", b"%d" % i) for i in range(500)])
    assert answer["FailedRecordCount"] == 0
    assert len(answer["Records"]) == 500
    assert await kinesis.read_from(SHARD) == [b"%d" % i for i in range(500)]


async def test_put_records_refuses_501(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put_many([("key", b"1")] * 501)


async def test_put_records_refuses_an_empty_list(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put_many([])


@large_bodies
async def test_a_record_of_exactly_one_mib_is_taken(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"x" * (MIB - 3), "key")
    assert [len(data) for data in await kinesis.read_from(SHARD)] == [MIB - 3]


@large_bodies
async def test_a_record_above_one_mib_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put(b"x" * (MIB + 1), "key")
    assert await kinesis.read_from(SHARD) == []


@large_bodies
async def test_one_record_above_one_mib_refuses_the_whole_put_records(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put_many([("key", b"1"), ("key", b"x" * (MIB + 1))])
    assert await kinesis.read_from(SHARD) == []


@large_bodies
async def test_the_partition_key_counts_towards_one_mib(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put(b"x" * (MIB - 2), "key")


@large_bodies
async def test_put_records_refuses_more_than_ten_mib(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("InvalidArgumentException", "ValidationException"):
        await kinesis.put_many([("key", b"x" * (MIB - 100))] * 11)


@pytest.mark.parametrize("key", ["", "k" * 257])
async def test_a_partition_key_has_1_to_256_characters(kinesis: Kinesis, key: str) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.put(b"1", key)


async def test_the_five_iterator_types_start_where_they_say(kinesis: Kinesis) -> None:
    await kinesis.create()
    latest_when_empty = await kinesis.iterator(SHARD, "LATEST")
    puts = [await kinesis.put(b"%d" % i) for i in range(3)]
    middle = puts[1]["SequenceNumber"]
    read = kinesis.read_from
    assert await read(SHARD, "TRIM_HORIZON") == [b"0", b"1", b"2"]
    assert await read(SHARD, "LATEST") == []
    assert await read(SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=middle) == [b"1", b"2"]
    assert await read(SHARD, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=middle) == [b"2"]
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert await read(SHARD, "AT_TIMESTAMP", Timestamp=long_ago) == [b"0", b"1", b"2"]
    page = await kinesis.get(latest_when_empty)
    assert [record["Data"] for record in page["Records"]] == [b"0", b"1", b"2"]


async def test_at_timestamp_starts_at_the_first_record_not_before(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"before")
    records, _ = await kinesis.read_shard(SHARD)
    border = records[0]["ApproximateArrivalTimestamp"] + dt.timedelta(milliseconds=1)
    while dt.datetime.now(dt.UTC) <= border:
        pass
    await kinesis.put(b"after")
    assert await kinesis.read_from(SHARD, "AT_TIMESTAMP", Timestamp=border) == [b"after"]


async def test_the_shards_starting_number_is_a_place_to_start(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    (shard,) = await kinesis.shards()
    start = shard["SequenceNumberRange"]["StartingSequenceNumber"]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        assert await kinesis.read_from(SHARD, kind, StartingSequenceNumber=start) == [b"1"]


async def test_a_made_up_sequence_number_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    with refused("InvalidArgumentException"):
        await kinesis.iterator(SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber="123456")


async def test_a_sequence_number_of_another_shard_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    put = await kinesis.put(b"1", ExplicitHashKey=str(TOP_HASH))
    with refused("InvalidArgumentException"):
        await kinesis.iterator(
            SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"]
        )


@pytest.mark.parametrize("kind", ["TRIM_HORIZON", "LATEST"])
async def test_a_sequence_number_goes_with_the_sequence_iterators_only(
    kinesis: Kinesis, kind: str
) -> None:
    await kinesis.create()
    put = await kinesis.put(b"1")
    with refused("InvalidArgumentException"):
        await kinesis.iterator(SHARD, kind, StartingSequenceNumber=put["SequenceNumber"])


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"])
async def test_an_iterator_needs_its_starting_point(kinesis: Kinesis, kind: str) -> None:
    await kinesis.create()
    with refused("InvalidArgumentException"):
        await kinesis.iterator(SHARD, kind)


async def test_an_iterator_cannot_start_in_the_future(kinesis: Kinesis) -> None:
    await kinesis.create()
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    with refused("InvalidArgumentException"):
        await kinesis.iterator(SHARD, "AT_TIMESTAMP", Timestamp=tomorrow)


async def test_an_unknown_iterator_type_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.iterator(SHARD, "EARLIEST")


async def test_an_unknown_shard_is_not_found(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ResourceNotFoundException") as message:
        await kinesis.iterator("shardId-000000000009")
    assert "shardId-000000000009" in message()


async def test_a_made_up_iterator_is_refused(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("InvalidArgumentException"):
        await kinesis.get("bm90IGFuIGl0ZXJhdG9y")


async def test_get_records_pages_by_limit(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put_many([("key", b"%d" % i) for i in range(5)])
    iterator = await kinesis.iterator(SHARD)
    pages = []
    for _ in range(4):
        page = await kinesis.get(iterator, Limit=2)
        pages.append([record["Data"] for record in page["Records"]])
        iterator = page["NextShardIterator"]
    assert pages == [[b"0", b"1"], [b"2", b"3"], [b"4"], []]


@pytest.mark.parametrize("limit", [0, 10_001])
async def test_get_records_takes_limits_from_1_to_10000(kinesis: Kinesis, limit: int) -> None:
    await kinesis.create()
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.get(await kinesis.iterator(SHARD), Limit=limit)


async def test_an_iterator_can_be_used_again(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    iterator = await kinesis.iterator(SHARD)
    for _ in range(2):
        page = await kinesis.get(iterator)
        assert [record["Data"] for record in page["Records"]] == [b"1"]


@large_bodies
async def test_get_records_returns_at_most_ten_mib(kinesis: Kinesis) -> None:
    await kinesis.create()
    for i in range(12):
        await kinesis.put(b"%x" % i * (MIB - 8), "key")
    page = await kinesis.get(await kinesis.iterator(SHARD))
    sizes = [len(record["Data"]) for record in page["Records"]]
    assert sum(sizes) <= 10 * MIB
    assert 1 <= len(sizes) < 12
    rest = await kinesis.get(page["NextShardIterator"])
    data = [record["Data"][:1] for record in page["Records"] + rest["Records"]]
    assert data == [b"%x" % i for i in range(12)]


async def test_millis_behind_latest_is_zero_only_at_the_tip(kinesis: Kinesis) -> None:
    await kinesis.create()
    iterator = await kinesis.iterator(SHARD)
    assert (await kinesis.get(iterator))["MillisBehindLatest"] == 0
    await kinesis.put(b"1")
    (first,), _ = await kinesis.read_shard(SHARD)
    # Only once the clock has moved on can a reader be behind.
    while dt.datetime.now(dt.UTC) - first["ApproximateArrivalTimestamp"] < dt.timedelta(
        milliseconds=10
    ):
        pass
    await kinesis.put(b"2")
    assert (await kinesis.get(iterator, Limit=1))["MillisBehindLatest"] > 0
    assert (await kinesis.get(iterator, Limit=2))["MillisBehindLatest"] == 0
