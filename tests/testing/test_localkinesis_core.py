"""The core without sockets: what the black-box suite does not ask."""

from __future__ import annotations

import msgspec
import pytest

from streamproc.testing import LocalKinesisCore
from streamproc.testing.localkinesis import KinesisError

MIB = 1024 * 1024


@pytest.fixture
def core() -> LocalKinesisCore:
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName="orders", ShardCount=1)
    return core


def error(core: LocalKinesisCore, operation: str, body: bytes) -> tuple[int, dict[str, str]]:
    reply = core.handle(operation, body)
    return reply.status, msgspec.json.decode(reply.body, type=dict[str, str])


def test_an_error_is_answered_as_aws_does(core: LocalKinesisCore) -> None:
    assert error(core, "DescribeStream", b'{"StreamName":"nope"}') == (
        400,
        {
            "__type": "ResourceNotFoundException",
            "message": "Stream nope under account 000000000000 not found.",
        },
    )


def test_an_unknown_operation_is_named(core: LocalKinesisCore) -> None:
    status, body = error(core, "SubscribeToMoon", b"{}")
    assert (status, body["__type"]) == (400, "UnknownOperationException")
    assert "SubscribeToMoon" in body["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"StreamName":1}', b'{"Limit":"1"}', b"\xff"])
def test_a_malformed_request_is_a_serialization_error(core: LocalKinesisCore, body: bytes) -> None:
    assert error(core, "DescribeStream", body)[1]["__type"] == "SerializationException"


@pytest.mark.parametrize("data", ["a", "ab==c", "a b=", "ü", "YQ", "YQ==\\n"])
def test_data_that_is_not_base64_is_refused_and_not_stored(
    core: LocalKinesisCore, data: str
) -> None:
    body = b'{"StreamName":"orders","PartitionKey":"k","Data":"%s"}' % data.encode()
    assert error(core, "PutRecord", body)[1]["__type"] == "SerializationException"
    assert stored(core) == []


def stored(core: LocalKinesisCore) -> list[str]:
    iterator = core.call(
        "GetShardIterator",
        StreamName="orders",
        ShardId="shardId-000000000000",
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    return [record["Data"] for record in core.call("GetRecords", ShardIterator=iterator)["Records"]]


def test_base64_with_escaped_slashes_is_understood(core: LocalKinesisCore) -> None:
    core.handle("PutRecord", rb'{"StreamName":"orders","PartitionKey":"k","Data":"\/\/8="}')
    assert stored(core) == ["//8="]


def test_empty_data_is_a_record(core: LocalKinesisCore) -> None:
    core.call("PutRecord", StreamName="orders", Data=b"", PartitionKey="k")
    assert stored(core) == [""]


def test_a_stream_may_take_larger_records() -> None:
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName="large", ShardCount=1, MaxRecordSizeInKiB=2048)
    core.call("PutRecord", StreamName="large", Data=b"x" * (2 * MIB - 1), PartitionKey="k")
    with pytest.raises(KinesisError, match="ValidationException"):
        core.call("PutRecord", StreamName="large", Data=b"x" * 2 * MIB, PartitionKey="k")


def test_put_records_takes_exactly_ten_mib(core: LocalKinesisCore) -> None:
    records = [{"Data": b"x" * (MIB - 1), "PartitionKey": "k"}] * 10
    answer = core.call("PutRecords", StreamName="orders", Records=records)
    assert answer["FailedRecordCount"] == 0
    with pytest.raises(KinesisError, match="InvalidArgumentException"):
        core.call(
            "PutRecords",
            StreamName="orders",
            Records=[*records, {"Data": b"", "PartitionKey": "k"}],
        )


def test_the_account_has_a_shard_limit() -> None:
    core = LocalKinesisCore(shard_limit=3)
    core.call("CreateStream", StreamName="one", ShardCount=2)
    with pytest.raises(KinesisError, match="LimitExceededException"):
        core.call("CreateStream", StreamName="two", ShardCount=2)
    core.call("UpdateShardCount", StreamName="one", TargetShardCount=3, ScalingType=UNIFORM)
    with pytest.raises(KinesisError, match="LimitExceededException"):
        core.call("UpdateShardCount", StreamName="one", TargetShardCount=4, ScalingType=UNIFORM)
    assert core.call("DescribeLimits")["OpenShardCount"] == 3


UNIFORM = "UNIFORM_SCALING"


def test_an_arn_of_another_account_is_refused(core: LocalKinesisCore) -> None:
    arn = "arn:aws:kinesis:us-east-1:999999999999:stream/orders"
    with pytest.raises(KinesisError, match="ValidationException"):
        core.call("DescribeStreamSummary", StreamARN=arn)


def test_a_token_for_one_thing_does_not_serve_another(core: LocalKinesisCore) -> None:
    core.call("CreateStream", StreamName="two", ShardCount=2)
    token = core.call("ListShards", StreamName="two", MaxResults=1)["NextToken"]
    with pytest.raises(KinesisError, match="Invalid ShardIterator"):
        core.call("GetRecords", ShardIterator=token)


def test_a_damaged_iterator_is_refused(core: LocalKinesisCore) -> None:
    iterator = core.call(
        "GetShardIterator",
        StreamName="orders",
        ShardId="shardId-000000000000",
        ShardIteratorType="LATEST",
    )["ShardIterator"]
    middle = len(iterator) // 2
    other = "A" if iterator[middle] != "A" else "B"
    with pytest.raises(KinesisError, match="Invalid ShardIterator"):
        core.call("GetRecords", ShardIterator=iterator[:middle] + other + iterator[middle + 1 :])
