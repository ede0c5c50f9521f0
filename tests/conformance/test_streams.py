"""Streams as a whole: create, describe, list, delete, retention."""

from __future__ import annotations

import pytest

from .conftest import Kinesis, assert_covers_everything, hash_range, refused


async def test_a_created_stream_becomes_active_with_its_shards(kinesis: Kinesis) -> None:
    await kinesis.create(shards=3)
    answer = await kinesis.client.describe_stream_summary(StreamName=kinesis.stream)
    summary = answer["StreamDescriptionSummary"]
    assert summary["StreamName"] == kinesis.stream
    assert summary["StreamARN"].endswith(f":stream/{kinesis.stream}")
    assert summary["StreamStatus"] == "ACTIVE"
    assert summary["OpenShardCount"] == 3
    assert summary["RetentionPeriodHours"] == 24


async def test_new_shards_divide_the_hash_range_evenly(kinesis: Kinesis) -> None:
    await kinesis.create(shards=3)
    shards = await kinesis.shards()
    assert [shard["ShardId"] for shard in shards] == [f"shardId-{i:012d}" for i in range(3)]
    assert_covers_everything(shards)
    widths = [end - start for start, end in map(hash_range, shards)]
    assert max(widths) - min(widths) <= 1


async def test_describe_stream_pages_through_shards(kinesis: Kinesis) -> None:
    await kinesis.create(shards=3)
    first = await kinesis.client.describe_stream(StreamName=kinesis.stream, Limit=2)
    shards = first["StreamDescription"]["Shards"]
    assert len(shards) == 2
    assert first["StreamDescription"]["HasMoreShards"] is True
    rest = await kinesis.client.describe_stream(
        StreamName=kinesis.stream, ExclusiveStartShardId=shards[-1]["ShardId"]
    )
    assert [shard["ShardId"] for shard in rest["StreamDescription"]["Shards"]] == [
        "shardId-000000000002"
    ]
    assert rest["StreamDescription"]["HasMoreShards"] is False


async def test_a_stream_cannot_be_created_twice(kinesis: Kinesis) -> None:
    await kinesis.create()
    with refused("ResourceInUseException") as message:
        await kinesis.client.create_stream(StreamName=kinesis.stream, ShardCount=1)
    assert kinesis.stream in message()


async def test_an_on_demand_stream_begins_with_four_shards(kinesis: Kinesis) -> None:
    await kinesis.client.create_stream(
        StreamName=kinesis.stream, StreamModeDetails={"StreamMode": "ON_DEMAND"}
    )
    await kinesis.until_active()
    assert len(await kinesis.open_shards()) == 4


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_stream", {}),
        ("describe_stream_summary", {}),
        ("list_shards", {}),
        ("delete_stream", {}),
        ("put_record", {"Data": b"1", "PartitionKey": "k"}),
        ("put_records", {"Records": [{"Data": b"1", "PartitionKey": "k"}]}),
        (
            "get_shard_iterator",
            {"ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST"},
        ),
        ("split_shard", {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "9"}),
        ("update_shard_count", {"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
    ],
)
async def test_an_unknown_stream_is_not_found(
    kinesis: Kinesis, operation: str, arguments: dict[str, object]
) -> None:
    with refused("ResourceNotFoundException") as message:
        await getattr(kinesis.client, operation)(StreamName=kinesis.stream, **arguments)
    assert kinesis.stream in message()


async def test_a_stream_name_has_an_alphabet(kinesis: Kinesis) -> None:
    with refused("ValidationException", "InvalidArgumentException"):
        await kinesis.client.create_stream(StreamName="no spaces", ShardCount=1)


async def create_abc(kinesis: Kinesis) -> list[str]:
    names = [f"{kinesis.stream}-{letter}" for letter in "abc"]
    for name in names:
        await kinesis.client.create_stream(StreamName=name, ShardCount=1)
    return names


async def test_list_streams_goes_on_after_a_name(kinesis: Kinesis) -> None:
    a, b, c = await create_abc(kinesis)
    page = await kinesis.client.list_streams(ExclusiveStartStreamName=a, Limit=1)
    assert page["StreamNames"] == [b]
    assert page["HasMoreStreams"] is True
    page = await kinesis.client.list_streams(ExclusiveStartStreamName=b, Limit=1)
    assert page["StreamNames"] == [c]


async def test_list_streams_goes_on_with_a_token(kinesis: Kinesis) -> None:
    a, b, c = await create_abc(kinesis)
    page = await kinesis.client.list_streams(ExclusiveStartStreamName=a, Limit=1)
    assert page["StreamNames"] == [b]
    page = await kinesis.client.list_streams(NextToken=page["NextToken"], Limit=1)
    assert page["StreamNames"] == [c]


async def test_a_stream_answers_to_its_arn(kinesis: Kinesis) -> None:
    await kinesis.create()
    summary = await kinesis.client.describe_stream_summary(StreamName=kinesis.stream)
    arn = summary["StreamDescriptionSummary"]["StreamARN"]
    put = await kinesis.client.put_record(StreamARN=arn, Data=b"by arn", PartitionKey="k")
    answer = await kinesis.client.get_shard_iterator(
        StreamARN=arn, ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    for more in ({}, {"StreamARN": arn}):
        page = await kinesis.get(answer["ShardIterator"], **more)
        assert [record["Data"] for record in page["Records"]] == [b"by arn"]
    assert len((await kinesis.client.list_shards(StreamARN=arn))["Shards"]) == 1


async def test_a_deleted_stream_is_gone(kinesis: Kinesis) -> None:
    await kinesis.create()
    await kinesis.client.delete_stream(StreamName=kinesis.stream)
    with refused("ResourceNotFoundException"):
        while await kinesis.status() == "DELETING":
            pass
    assert kinesis.stream not in (await kinesis.client.list_streams())["StreamNames"]


async def test_an_iterator_does_not_survive_its_stream(kinesis: Kinesis) -> None:
    await kinesis.create()
    iterator = await kinesis.iterator("shardId-000000000000")
    await kinesis.client.delete_stream(StreamName=kinesis.stream)
    with refused("ResourceNotFoundException"):
        while await kinesis.status() == "DELETING":
            pass
    with refused("ResourceNotFoundException"):
        await kinesis.get(iterator)


async def test_retention_grows_and_shrinks_within_bounds(kinesis: Kinesis) -> None:
    await kinesis.create()
    client, name = kinesis.client, kinesis.stream
    await client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    summary = await client.describe_stream_summary(StreamName=name)
    assert summary["StreamDescriptionSummary"]["RetentionPeriodHours"] == 48
    with refused("InvalidArgumentException"):
        await client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=30)
    with refused("InvalidArgumentException"):
        await client.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=72)
    await client.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
    summary = await client.describe_stream_summary(StreamName=name)
    assert summary["StreamDescriptionSummary"]["RetentionPeriodHours"] == 24
    with refused("InvalidArgumentException", "ValidationException"):
        await client.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=23)
