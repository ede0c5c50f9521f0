"""Splits, merges, resizing, and how a reader follows them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from .conftest import TOP_HASH, Kinesis, assert_covers_everything, hash_range, refused

SHARD = "shardId-000000000000"
MIDDLE = 2**127


def by_id(shards: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {shard["ShardId"]: shard for shard in shards}


async def split(kinesis: Kinesis, shard_id: str = SHARD, at: int = MIDDLE) -> None:
    await kinesis.client.split_shard(
        StreamName=kinesis.stream, ShardToSplit=shard_id, NewStartingHashKey=str(at)
    )
    await kinesis.until_active()


async def merge(kinesis: Kinesis, shard_id: str, adjacent: str) -> None:
    await kinesis.client.merge_shards(
        StreamName=kinesis.stream, ShardToMerge=shard_id, AdjacentShardToMerge=adjacent
    )
    await kinesis.until_active()


async def resize(kinesis: Kinesis, count: int) -> dict[str, Any]:
    answer: dict[str, Any] = await kinesis.client.update_shard_count(
        StreamName=kinesis.stream, TargetShardCount=count, ScalingType="UNIFORM_SCALING"
    )
    await kinesis.until_active()
    return answer


async def test_a_split_divides_the_range_and_names_the_parent(kinesis: Kinesis) -> None:
    await kinesis.create()
    await split(kinesis, at=1000)
    shards = by_id(await kinesis.shards())
    assert list(shards) == [f"shardId-{i:012d}" for i in range(3)]
    low, high = (shards[f"shardId-{i:012d}"] for i in (1, 2))
    assert (hash_range(low), hash_range(high)) == ((0, 999), (1000, TOP_HASH))
    assert low["ParentShardId"] == high["ParentShardId"] == SHARD
    assert "EndingSequenceNumber" in shards[SHARD]["SequenceNumberRange"]
    assert "EndingSequenceNumber" not in low["SequenceNumberRange"]


async def test_after_a_split_records_go_to_the_children(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"before")
    await split(kinesis)
    low = await kinesis.put(b"low", ExplicitHashKey="0")
    high = await kinesis.put(b"high", ExplicitHashKey=str(TOP_HASH))
    assert (low["ShardId"], high["ShardId"]) == ("shardId-000000000001", "shardId-000000000002")
    assert await kinesis.read_from(SHARD) == [b"before"]
    assert await kinesis.read_from(low["ShardId"]) == [b"low"]


async def test_a_closed_shard_ends_with_its_children(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    await split(kinesis)
    records, last = await kinesis.read_shard(SHARD)
    assert [record["Data"] for record in records] == [b"1"]
    assert last.get("NextShardIterator") is None
    assert {child["ShardId"] for child in last["ChildShards"]} == {
        "shardId-000000000001",
        "shardId-000000000002",
    }
    assert all(child["ParentShards"] == [SHARD] for child in last["ChildShards"])
    assert_covers_everything(last["ChildShards"])


async def test_an_iterator_from_before_the_split_sees_the_end(kinesis: Kinesis) -> None:
    await kinesis.create()
    iterator = await kinesis.iterator(SHARD, "LATEST")
    await kinesis.put(b"1")
    await split(kinesis)
    page = await kinesis.get(iterator)
    data = [record["Data"] for record in page["Records"]]
    while page.get("NextShardIterator") is not None:
        page = await kinesis.get(page["NextShardIterator"])
        data += [record["Data"] for record in page["Records"]]
    assert data == [b"1"]
    assert len(page["ChildShards"]) == 2


async def test_a_closed_shards_ending_number_is_not_below_its_records(kinesis: Kinesis) -> None:
    await kinesis.create()
    put = await kinesis.put(b"1")
    await split(kinesis)
    held = by_id(await kinesis.shards())[SHARD]["SequenceNumberRange"]
    assert int(held["StartingSequenceNumber"]) < int(put["SequenceNumber"])
    assert int(put["SequenceNumber"]) <= int(held["EndingSequenceNumber"])


async def test_a_closed_shard_can_be_read_up_from_its_ending_number(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    await split(kinesis)
    ending = by_id(await kinesis.shards())[SHARD]["SequenceNumberRange"]["EndingSequenceNumber"]
    page = await kinesis.get(
        await kinesis.iterator(SHARD, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=ending)
    )
    assert page["Records"] == []
    assert page.get("NextShardIterator") is None


async def test_latest_on_a_closed_shard_is_its_end(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.put(b"1")
    await split(kinesis)
    page = await kinesis.get(await kinesis.iterator(SHARD, "LATEST"))
    assert page["Records"] == []
    assert page.get("NextShardIterator") is None


async def test_sequence_numbers_grow_along_the_lineage(kinesis: Kinesis) -> None:
    await kinesis.create()
    numbers = [int((await kinesis.put(b"1"))["SequenceNumber"])]
    await split(kinesis)
    numbers.append(int((await kinesis.put(b"2"))["SequenceNumber"]))
    await merge(kinesis, "shardId-000000000001", "shardId-000000000002")
    numbers.append(int((await kinesis.put(b"3"))["SequenceNumber"]))
    await resize(kinesis, 2)
    numbers.append(int((await kinesis.put(b"4"))["SequenceNumber"]))
    assert sorted(set(numbers)) == numbers


async def test_a_childs_starting_number_is_above_its_parents_records(kinesis: Kinesis) -> None:
    await kinesis.create()
    put = await kinesis.put(b"1")
    await split(kinesis)
    for shard in await kinesis.open_shards():
        start = int(shard["SequenceNumberRange"]["StartingSequenceNumber"])
        assert start > int(put["SequenceNumber"])


async def test_a_merge_joins_the_ranges_and_names_both_parents(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    await kinesis.put(b"low", ExplicitHashKey="0")
    await merge(kinesis, SHARD, "shardId-000000000001")
    (child,) = await kinesis.open_shards()
    assert child["ShardId"] == "shardId-000000000002"
    assert hash_range(child) == (0, TOP_HASH)
    assert child["ParentShardId"] == SHARD
    assert child["AdjacentParentShardId"] == "shardId-000000000001"
    _, last = await kinesis.read_shard(SHARD)
    (ended,) = last["ChildShards"]
    assert set(ended["ParentShards"]) == {SHARD, "shardId-000000000001"}


async def test_the_lower_of_two_shards_to_merge_is_named_first(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    with refused("InvalidArgumentException"):
        await merge(kinesis, "shardId-000000000001", SHARD)
    assert len(await kinesis.open_shards()) == 2


async def test_only_adjacent_shards_merge(kinesis: Kinesis) -> None:
    await kinesis.create(shards=3)
    with refused("InvalidArgumentException"):
        await merge(kinesis, SHARD, "shardId-000000000002")
    assert len(await kinesis.open_shards()) == 3


async def test_a_closed_shard_cannot_be_split_again(kinesis: Kinesis) -> None:
    await kinesis.create()
    await split(kinesis)
    with refused("ResourceInUseException", "InvalidArgumentException", "ResourceNotFoundException"):
        await split(kinesis)
    assert len(await kinesis.shards()) == 3


async def test_a_closed_shard_cannot_be_merged_again(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    await merge(kinesis, SHARD, "shardId-000000000001")
    with refused("ResourceInUseException", "InvalidArgumentException", "ResourceNotFoundException"):
        await merge(kinesis, SHARD, "shardId-000000000001")
    assert len(await kinesis.shards()) == 3


@pytest.mark.parametrize("at", [0, 2**127, TOP_HASH])
async def test_a_split_needs_a_key_inside_the_shard(kinesis: Kinesis, at: int) -> None:
    await kinesis.create(shards=2)
    with refused("InvalidArgumentException"):
        await split(kinesis, at=at)


async def test_an_unknown_shard_cannot_be_split(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ResourceNotFoundException"):
        await split(kinesis, "shardId-000000000007")


async def test_update_shard_count_reaches_any_count_evenly(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    for count in (4, 2, 3):
        before = len(await kinesis.open_shards())
        answer = await resize(kinesis, count)
        assert (answer["CurrentShardCount"], answer["TargetShardCount"]) == (before, count)
        shards = await kinesis.open_shards()
        assert len(shards) == count
        assert_covers_everything(shards)
        widths = [end - start for start, end in map(hash_range, shards)]
        assert max(widths) - min(widths) < max(widths) / 1_000_000


@pytest.mark.parametrize("count", [9, 1])
async def test_update_shard_count_doubles_or_halves_at_most(kinesis: Kinesis, count: int) -> None:
    await kinesis.create(shards=4)
    with refused("InvalidArgumentException"):
        await resize(kinesis, count)


async def test_every_record_is_read_once_through_reshards(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    expected = []
    for round_number, count in enumerate((4, 3, 2, 1)):
        batch = [(f"key-{i}", b"%d-%d" % (round_number, i)) for i in range(50)]
        assert (await kinesis.put_many(batch))["FailedRecordCount"] == 0
        expected += [data for _, data in batch]
        await resize(kinesis, count)
    await kinesis.put(b"last")
    assert sorted(await kinesis.read_all()) == sorted([*expected, b"last"])


async def test_records_of_a_key_stay_in_order_through_reshards(kinesis: Kinesis) -> None:
    await kinesis.create(shards=1)
    for i, count in enumerate((2, 4, 3, 2)):
        await kinesis.put(b"%d" % i, "the key")
        await resize(kinesis, count)
    assert await kinesis.read_all() == [b"0", b"1", b"2", b"3"]


async def test_list_shards_pages_with_tokens(kinesis: Kinesis) -> None:
    await kinesis.create(shards=5)
    first = await kinesis.client.list_shards(StreamName=kinesis.stream, MaxResults=2)
    assert len(first["Shards"]) == 2
    second = await kinesis.client.list_shards(NextToken=first["NextToken"], MaxResults=2)
    third = await kinesis.client.list_shards(NextToken=second["NextToken"], MaxResults=2)
    assert "NextToken" not in third
    found = [shard["ShardId"] for page in (first, second, third) for shard in page["Shards"]]
    assert found == [f"shardId-{i:012d}" for i in range(5)]


async def test_a_page_token_stands_alone(kinesis: Kinesis) -> None:
    await kinesis.create(shards=2)
    first = await kinesis.client.list_shards(StreamName=kinesis.stream, MaxResults=1)
    with refused("InvalidArgumentException"):
        await kinesis.client.list_shards(StreamName=kinesis.stream, NextToken=first["NextToken"])


async def test_list_shards_goes_on_after_a_shard(kinesis: Kinesis) -> None:
    await kinesis.create(shards=3)
    shards = await kinesis.shards(ExclusiveStartShardId=SHARD)
    assert [shard["ShardId"] for shard in shards] == [
        "shardId-000000000001",
        "shardId-000000000002",
    ]


async def shards_of(kinesis: Kinesis, **shard_filter: Any) -> list[int]:
    shards = await kinesis.shards(ShardFilter=shard_filter)
    return [int(shard["ShardId"].removeprefix("shardId-")) for shard in shards]


async def resharded(kinesis: Kinesis) -> None:
    """One shard (0) split into 1 and 2, and those merged into 3, each a few ms apart."""
    await kinesis.create()
    await split(kinesis)
    await merge(kinesis, "shardId-000000000001", "shardId-000000000002")


async def test_filter_at_latest_lists_open_shards(kinesis: Kinesis) -> None:
    await resharded(kinesis)
    assert await shards_of(kinesis, Type="AT_LATEST") == [3]


async def test_filter_at_trim_horizon_lists_the_oldest_cover(kinesis: Kinesis) -> None:
    await resharded(kinesis)
    assert await shards_of(kinesis, Type="AT_TRIM_HORIZON") == [0]


async def test_filter_from_trim_horizon_lists_all(kinesis: Kinesis) -> None:
    await resharded(kinesis)
    assert await shards_of(kinesis, Type="FROM_TRIM_HORIZON") == [0, 1, 2, 3]


async def test_filter_after_shard_id_lists_what_follows(kinesis: Kinesis) -> None:
    await resharded(kinesis)
    assert await shards_of(kinesis, Type="AFTER_SHARD_ID", ShardId="shardId-000000000001") == [2, 3]


@pytest.mark.parametrize("kind", ["AT_TIMESTAMP", "FROM_TIMESTAMP"])
async def test_filter_by_a_time_after_the_reshards_lists_open_shards(
    kinesis: Kinesis, kind: str
) -> None:
    await resharded(kinesis)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=20)
    while dt.datetime.now(dt.UTC) <= later:
        pass
    assert await shards_of(kinesis, Type=kind, Timestamp=later) == [3]


async def test_filter_by_a_time_before_the_stream_counts_as_trim_horizon(kinesis: Kinesis) -> None:
    await resharded(kinesis)
    earlier = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert await shards_of(kinesis, Type="FROM_TIMESTAMP", Timestamp=earlier) == [0, 1, 2, 3]


async def test_filter_types_need_their_members(kinesis: Kinesis) -> None:
    await kinesis.create()
    for shard_filter in ({"Type": "AFTER_SHARD_ID"}, {"Type": "AT_TIMESTAMP"}):
        with refused("InvalidArgumentException", "ValidationException"):
            await kinesis.shards(ShardFilter=shard_filter)
