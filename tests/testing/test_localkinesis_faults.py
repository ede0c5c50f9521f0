"""Faults on demand: each fires as often as planned, where planned, and is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from streamproc.testing import LocalKinesis, LocalKinesisCore
from streamproc.testing.localkinesis import KinesisError, Wire

SESSION = AioSession()
FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


@pytest.fixture
async def client(local_kinesis: LocalKinesis) -> AsyncIterator[Any]:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=2)
    async with SESSION.create_client(
        "kinesis",
        endpoint_url=local_kinesis.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        yield client


@pytest.fixture
def core() -> LocalKinesisCore:
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName="orders", ShardCount=2)
    return core


async def iterator(client: Any, shard: str = FIRST) -> str:
    answer = await client.get_shard_iterator(
        StreamName="orders", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )
    text: str = answer["ShardIterator"]
    return text


def core_iterator(core: LocalKinesisCore, shard: str = FIRST) -> str:
    answer = core.call(
        "GetShardIterator", StreamName="orders", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )
    text: str = answer["ShardIterator"]
    return text


async def test_a_throttle_fires_as_often_as_planned(
    local_kinesis: LocalKinesis, client: Any
) -> None:
    text = await iterator(client)
    fault = local_kinesis.faults.throttle("GetRecords", count=2)
    for _ in range(2):
        with pytest.raises(client.exceptions.ProvisionedThroughputExceededException):
            await client.get_records(ShardIterator=text)
    await client.get_records(ShardIterator=text)
    assert fault.fired == 2
    assert local_kinesis.faults.fired == 2
    assert local_kinesis.faults.pending == []


async def test_an_http_500_is_an_internal_failure(local_kinesis: LocalKinesis, client: Any) -> None:
    fault = local_kinesis.faults.server_error("ListShards")
    with pytest.raises(ClientError) as caught:
        await client.list_shards(StreamName="orders")
    assert caught.value.response["Error"]["Code"] == "InternalFailure"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert fault.fired == 1


async def test_an_iterator_expires_on_demand(local_kinesis: LocalKinesis, client: Any) -> None:
    text = await iterator(client)
    local_kinesis.faults.expire_iterator()
    with pytest.raises(client.exceptions.ExpiredIteratorException):
        await client.get_records(ShardIterator=text)
    await client.get_records(ShardIterator=text)


async def test_a_dropped_connection_has_no_answer(local_kinesis: LocalKinesis, client: Any) -> None:
    fault = local_kinesis.faults.drop_connection("PutRecord")
    with pytest.raises(ConnectionClosedError):
        await client.put_record(StreamName="orders", Data=b"1", PartitionKey="k")
    assert fault.fired == 1
    answer = await client.put_record(StreamName="orders", Data=b"2", PartitionKey="k")
    page = await client.get_records(ShardIterator=await iterator(client, answer["ShardId"]))
    assert [record["Data"] for record in page["Records"]] == [b"2"]


async def test_a_lost_answer_leaves_its_effect(local_kinesis: LocalKinesis, client: Any) -> None:
    local_kinesis.faults.drop_connection("PutRecord", applied=True)
    with pytest.raises(ConnectionClosedError):
        await client.put_record(
            StreamName="orders", Data=b"1", PartitionKey="k", ExplicitHashKey="0"
        )
    page = await client.get_records(ShardIterator=await iterator(client))
    assert [record["Data"] for record in page["Records"]] == [b"1"]


async def test_a_truncated_body_fails_the_read(local_kinesis: LocalKinesis, client: Any) -> None:
    await client.put_record(
        StreamName="orders", Data=b"x" * 100_000, PartitionKey="k", ExplicitHashKey="0"
    )
    text = await iterator(client)
    fault = local_kinesis.faults.truncate_body("GetRecords")
    with pytest.raises(BotoCoreError):
        await client.get_records(ShardIterator=text)
    assert fault.fired == 1
    assert len((await client.get_records(ShardIterator=text))["Records"]) == 1


async def test_latency_holds_the_answer_back(local_kinesis: LocalKinesis, client: Any) -> None:
    fault = local_kinesis.faults.latency("GetRecords", 0.2)
    text = await iterator(client)
    loop = asyncio.get_running_loop()
    started = loop.time()
    slow = asyncio.create_task(client.get_records(ShardIterator=text))
    await client.list_shards(StreamName="orders")
    assert not slow.done(), "other connections go on meanwhile"
    await slow
    assert loop.time() - started >= 0.2
    assert fault.fired == 1


async def test_a_client_that_leaves_during_latency_is_forgotten(
    local_kinesis: LocalKinesis, client: Any
) -> None:
    local_kinesis.faults.latency("GetRecords", 3600)
    text = await iterator(client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.get_records(ShardIterator=text)
    await client.get_records(ShardIterator=text)


def test_a_fault_is_limited_to_its_shard(core: LocalKinesisCore) -> None:
    fault = core.faults.throttle("GetRecords", count=None, shard=SECOND)
    core.call("GetRecords", ShardIterator=core_iterator(core, FIRST))
    for _ in range(3):
        with pytest.raises(KinesisError, match="ProvisionedThroughput"):
            core.call("GetRecords", ShardIterator=core_iterator(core, SECOND))
    assert fault.fired == 3
    core.faults.remove(fault)
    core.call("GetRecords", ShardIterator=core_iterator(core, SECOND))
    assert fault.fired == 3


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("GetShardIterator", {"ShardId": SECOND, "ShardIteratorType": "LATEST"}),
        ("SplitShard", {"ShardToSplit": SECOND, "NewStartingHashKey": str(2**127 + 9)}),
        ("MergeShards", {"ShardToMerge": SECOND, "AdjacentShardToMerge": FIRST}),
        ("PutRecord", {"Data": b"1", "PartitionKey": "k", "ExplicitHashKey": str(2**127)}),
    ],
)
def test_every_operation_on_a_shard_can_be_hit_by_shard(
    core: LocalKinesisCore, operation: str, members: dict[str, Any]
) -> None:
    elsewhere = core.faults.server_error(operation, shard=FIRST)
    here = core.faults.server_error(operation, shard=SECOND)
    with pytest.raises(KinesisError, match="InternalFailure"):
        core.call(operation, StreamName="orders", **members)
    assert (elsewhere.fired, here.fired) == (0, 1)


def test_a_fault_is_limited_to_its_operation(core: LocalKinesisCore) -> None:
    fault = core.faults.throttle("PutRecord")
    core.call("ListShards", StreamName="orders")
    assert fault.fired == 0


def test_faults_of_any_operation_hit_the_next_request(core: LocalKinesisCore) -> None:
    core.faults.server_error()
    with pytest.raises(KinesisError, match="InternalFailure"):
        core.call("ListStreams")


def test_a_fault_can_let_requests_pass_first(core: LocalKinesisCore) -> None:
    fault = core.faults.throttle("ListShards", skip=2)
    outcomes = [core.handle("ListShards", b'{"StreamName":"orders"}').status for _ in range(4)]
    assert outcomes == [200, 200, 400, 200]
    assert fault.fired == 1


def test_faults_fire_in_the_order_planned_and_one_a_request(core: LocalKinesisCore) -> None:
    core.faults.throttle("ListShards")
    core.faults.server_error("ListShards")
    core.faults.latency("ListShards", 1.5, count=None)
    replies = [core.handle("ListShards", b'{"StreamName":"orders"}') for _ in range(3)]
    assert [reply.error_code for reply in replies] == [
        "ProvisionedThroughputExceededException",
        "InternalFailure",
        None,
    ]
    assert [reply.delay_s for reply in replies] == [1.5] * 3


def test_any_error_code_can_be_planned(core: LocalKinesisCore) -> None:
    core.faults.error("ListShards", code="AccessDeniedException", message="not you", status=403)
    reply = core.handle("ListShards", b'{"StreamName":"orders"}')
    assert (reply.status, reply.error_code) == (403, "AccessDeniedException")
    assert b"not you" in reply.body


def test_single_records_of_a_batch_fail(core: LocalKinesisCore) -> None:
    fault = core.faults.fail_records(count=2, skip=1, shard=FIRST, code="InternalFailure")
    answer = core.call(
        "PutRecords",
        StreamName="orders",
        Records=[
            {"Data": b"%d" % i, "PartitionKey": "k", "ExplicitHashKey": hash_key}
            for i, hash_key in enumerate(["0", str(2**127), "0", "0", "0"])
        ],
    )
    codes = [record.get("ErrorCode") for record in answer["Records"]]
    assert codes == [None, None, "InternalFailure", "InternalFailure", None]
    assert answer["FailedRecordCount"] == fault.fired == 2
    stored = core.call("GetRecords", ShardIterator=core_iterator(core, FIRST))["Records"]
    assert len(stored) == 2


def test_cleared_faults_do_not_fire(core: LocalKinesisCore) -> None:
    fault = core.faults.throttle("ListShards", count=None)
    core.faults.clear()
    core.call("ListShards", StreamName="orders")
    assert fault.fired == 0


def test_wire_faults_are_told_to_whoever_carries_the_reply(core: LocalKinesisCore) -> None:
    core.faults.drop_connection("ListStreams")
    core.faults.truncate_body("ListStreams")
    replies = [core.handle("ListStreams", b"{}") for _ in range(3)]
    assert [reply.wire for reply in replies] == [Wire.DROPPED, Wire.TRUNCATED, Wire.SENT]
    assert replies[1].body == replies[2].body
