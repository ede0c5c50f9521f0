"""Prepared records are what PutRecords would have stored."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from streamproc.testing.localkinesis import KinesisError, LocalKinesisCore
from streamproc.testing.localkinesis.prepared import PreparedStream, prepare_record

RECORDS = [(f'key "{number}" é', b"data \x00 %d" % number) for number in range(40)]


class Clock:
    now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


def core_with(name: str, shards: int = 3) -> tuple[LocalKinesisCore, Clock]:
    clock = Clock()
    core = LocalKinesisCore(clock=clock)
    core.call("CreateStream", StreamName=name, ShardCount=shards)
    return core, clock


def held(core: LocalKinesisCore, name: str) -> dict[str, list[Any]]:
    """Return the records of every shard, as GetRecords gives them."""
    found = {}
    for shard in core.call("ListShards", StreamName=name)["Shards"]:
        iterator = core.call(
            "GetShardIterator",
            StreamName=name,
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        answer = core.call("GetRecords", ShardIterator=iterator)
        found[shard["ShardId"]] = answer["Records"]
    return found


def test_readers_get_the_very_same_records_as_after_put_records() -> None:
    (one, _), (other, _) = core_with("s"), core_with("s")
    one.call(
        "PutRecords",
        StreamName="s",
        Records=[
            {"PartitionKey": key, "Data": base64.b64encode(data).decode()} for key, data in RECORDS
        ],
    )
    PreparedStream(other, "s").append(prepare_record(key, data) for key, data in RECORDS)
    assert held(other, "s") == held(one, "s")
    assert sum(len(records) for records in held(other, "s").values()) == len(RECORDS)


def test_positions_and_sequence_numbers_tell_each_other() -> None:
    core, _ = core_with("s")
    stream = PreparedStream(core, "s")
    stream.append(prepare_record(key, data) for key, data in RECORDS)
    for shard, records in held(core, "s").items():
        assert stream.tips()[shard] == len(records)
        for position, record in enumerate(records):
            assert str(stream.number(shard, position)) == record["SequenceNumber"]
            assert stream.position_after(record["SequenceNumber"]) == position + 1
    with pytest.raises(ValueError, match="not a sequence number"):
        stream.position_after("17")


def test_after_a_split_records_go_to_the_children() -> None:
    core, _ = core_with("s", shards=1)
    stream = PreparedStream(core, "s")
    stream.append(prepare_record(key, data) for key, data in RECORDS)
    core.call(
        "SplitShard",
        StreamName="s",
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=str(2**127),
    )
    stream.append(prepare_record(key, data) for key, data in RECORDS)
    parent, low, high = stream.tips().values()
    assert (parent, low + high) == (len(RECORDS), len(RECORDS))
    assert low > 0 < high


def test_what_came_before_a_position_can_be_forgotten() -> None:
    core, clock = core_with("s", shards=1)
    stream = PreparedStream(core, "s")
    for key, data in RECORDS:
        stream.append([prepare_record(key, data)])
        clock.now += 1
    stream.forget_before("shardId-000000000000", 30)
    (records,) = held(core, "s").values()
    assert [record["PartitionKey"] for record in records] == [key for key, _ in RECORDS[30:]]
    assert stream.tips() == {"shardId-000000000000": len(RECORDS)}


def test_a_stream_that_is_not_there_is_named() -> None:
    core, _ = core_with("s")
    with pytest.raises(KinesisError, match="other"):
        PreparedStream(core, "other")
