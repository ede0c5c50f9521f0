"""CBOR over real HTTP, as the AWS SDK for Java sends it, decoded by a library of its own."""

from __future__ import annotations

import asyncio
import http.client
import sys
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.testing import LocalKinesis, LocalKinesisCore
from streamproc.testing.localkinesis.core import Wire

CONTENT_TYPE = "application/x-amz-cbor-1.1"
STREAM = "orders"
MILLISECONDS = {1: lambda value, _immutable: value}
Call = Callable[..., Any]


class CborError(Exception):
    def __init__(self, status: int, code: str, members: dict[str, str]) -> None:
        super().__init__(f"{status} {code}: {members}")
        self.status, self.code, self.members = status, code, members


def decode(body: bytes) -> Any:
    """Decode CBOR in which tag 1 is around milliseconds, which stay integers."""
    return cbor2.loads(body, semantic_decoders=MILLISECONDS) if body else None


def post(port: int, operation: str, body: bytes, content_type: str) -> tuple[Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": content_type, "X-Amz-Target": f"Kinesis_20131202.{operation}"}
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@pytest.fixture
def call(local_kinesis: LocalKinesis) -> Call:
    async def made(operation: str, body: bytes | None = None, **members: Any) -> Any:
        content = cbor2.dumps(members) if body is None else body
        answer, got = await asyncio.to_thread(
            post, local_kinesis.port, operation, content, CONTENT_TYPE
        )
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        if answer.status != 200:
            error = decode(got)
            assert answer.headers["x-amzn-ErrorType"] == error["__type"]
            raise CborError(answer.status, error["__type"], error)
        return decode(got)

    return made


async def iterator_of(call: Call, shard: str, **where: Any) -> str:
    where = where or {"ShardIteratorType": "TRIM_HORIZON"}
    answer = await call("GetShardIterator", StreamName=STREAM, ShardId=shard, **where)
    iterator: str = answer["ShardIterator"]
    return iterator


async def test_records_come_back_as_they_were_put(call: Call, local_kinesis: LocalKinesis) -> None:
    assert await call("CreateStream", StreamName=STREAM, ShardCount=1) is None
    data = [b"", b"\x00\xff" * 300, b"x" * 70_000, "\u00e4".encode()]
    puts = await call(
        "PutRecords",
        StreamName=STREAM,
        Records=[{"Data": each, "PartitionKey": f"k\u00fc{n}"} for n, each in enumerate(data)],
    )
    assert puts["FailedRecordCount"] == 0
    shard = puts["Records"][0]["ShardId"]
    single = await call("PutRecord", StreamName=STREAM, Data=b"last", PartitionKey="k" * 256)
    answer = await call("GetRecords", ShardIterator=await iterator_of(call, shard))
    records = answer["Records"]
    assert [record["Data"] for record in records] == [*data, b"last"]
    assert all(type(record["Data"]) is bytes for record in records)
    assert [record["PartitionKey"] for record in records] == [
        *[f"k\u00fc{n}" for n in range(len(data))],
        "k" * 256,
    ]
    numbers = [record["SequenceNumber"] for record in records]
    assert numbers == [
        *[put["SequenceNumber"] for put in puts["Records"]],
        single["SequenceNumber"],
    ]
    assert answer["MillisBehindLatest"] == 0
    assert isinstance(answer["NextShardIterator"], str)

    # The same records in JSON, with the same times.
    iterator = await iterator_of(call, shard)
    in_json = local_kinesis.core.call("GetRecords", ShardIterator=iterator)["Records"]
    assert [record["ApproximateArrivalTimestamp"] for record in records] == [
        round(record["ApproximateArrivalTimestamp"] * 1000) for record in in_json
    ]


async def test_a_time_is_tag_1_around_milliseconds(call: Call, local_kinesis: LocalKinesis) -> None:
    await call("CreateStream", StreamName=STREAM, ShardCount=1)
    put = await call("PutRecord", StreamName=STREAM, Data=b"1", PartitionKey="k")
    shard = put["ShardId"]
    iterator = await iterator_of(call, shard)
    _, raw = await asyncio.to_thread(
        post,
        local_kinesis.port,
        "GetRecords",
        cbor2.dumps({"ShardIterator": iterator}),
        CONTENT_TYPE,
    )
    (record,) = decode(raw)["Records"]
    arrival_ms = record["ApproximateArrivalTimestamp"]
    assert b"\x78\x1bApproximateArrivalTimestamp\xc1\x1b" + arrival_ms.to_bytes(8, "big") in raw
    # The Java SDK sends times in the same way.
    for at, count in ((arrival_ms, 1), (arrival_ms - 1, 1)):
        where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": cbor2.CBORTag(1, at)}
        begun = await iterator_of(call, shard, **where)
        assert len((await call("GetRecords", ShardIterator=begun))["Records"]) == count
    summary = (await call("DescribeStreamSummary", StreamName=STREAM))["StreamDescriptionSummary"]
    created = summary["StreamCreationTimestamp"]
    assert isinstance(created, int)
    assert 0 <= arrival_ms - created < 60_000


async def test_a_shards_end_has_children_and_no_iterator(
    call: Call, local_kinesis: LocalKinesis
) -> None:
    await call("CreateStream", StreamName=STREAM, ShardCount=1)
    shards = (await call("ListShards", StreamName=STREAM))["Shards"]
    (parent,) = [shard["ShardId"] for shard in shards]
    iterator = await iterator_of(call, parent)
    await call("SplitShard", StreamName=STREAM, ShardToSplit=parent, NewStartingHashKey=str(2**127))
    answer = await call("GetRecords", ShardIterator=iterator)
    assert answer["Records"] == []
    assert answer["NextShardIterator"] is None
    in_json = local_kinesis.core.call("GetRecords", ShardIterator=iterator)
    assert answer == in_json
    assert [child["ParentShards"] for child in answer["ChildShards"]] == [[parent], [parent]]


async def test_errors_are_in_cbor_too(call: Call) -> None:
    with pytest.raises(CborError) as missing:
        await call("DescribeStreamSummary", StreamName="none")
    assert missing.value.status == 400
    assert missing.value.code == "ResourceNotFoundException"
    assert "none" in missing.value.members["message"]
    with pytest.raises(CborError) as unknown:
        await call("FlyToTheMoon")
    assert unknown.value.code == "UnknownOperationException"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\xa1\x61a",  # a map that ends in the middle
        b"{}",
        b"\x01",
        cbor2.dumps({"StreamName": 5}),
        cbor2.dumps({"StreamName": "orders"}) + b"\x00",
        cbor2.dumps({"StreamName": "orders", "Data": "text", "PartitionKey": "k"}),
        cbor2.dumps({"StreamName": "orders", "Timestamp": cbor2.CBORTag(1, "soon")}),
        b"\xc1" * 5_000 + b"\x00",
    ],
)
async def test_what_is_no_such_request_is_refused(call: Call, body: bytes) -> None:
    with pytest.raises(CborError) as refused:
        await call("PutRecord", body)
    assert refused.value.status == 400
    assert refused.value.code == "SerializationException"


async def test_faults_apply_as_they_do_to_json(call: Call, local_kinesis: LocalKinesis) -> None:
    await call("CreateStream", StreamName=STREAM, ShardCount=1)
    fault = local_kinesis.faults.throttle("ListShards", count=1)
    with pytest.raises(CborError) as throttled:
        await call("ListShards", StreamName=STREAM)
    assert throttled.value.code == "ProvisionedThroughputExceededException"
    assert fault.fired == 1
    core = local_kinesis.core
    local_kinesis.faults.truncate_body("ListShards", count=1)
    reply = core.handle_cbor("ListShards", cbor2.dumps({"StreamName": STREAM}))
    assert reply.wire is Wire.TRUNCATED
    assert len(decode(reply.body)["Shards"]) == 1


async def test_empty_bodies_stand_for_requests_without_members(call: Call) -> None:
    assert (await call("ListStreams", b""))["StreamNames"] == []


async def test_indefinite_lengths_are_read(call: Call) -> None:
    # That is how Jackson, and so the Java SDK, writes them.
    await call("CreateStream", b"\xbf\x6aStreamName\x66orders\x6aShardCount\x01\xff")
    assert (await call("ListStreams"))["StreamNames"] == [STREAM]


async def test_without_the_package_the_refusal_says_what_to_install(
    local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    answer, body = await asyncio.to_thread(
        post, local_kinesis.port, "ListStreams", b"", CONTENT_TYPE
    )
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/x-amz-json-1.1")
    assert b"streamproc[local]" in body


@given(
    st.lists(
        st.tuples(st.binary(max_size=400), st.text(min_size=1, max_size=256)),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_is_put_comes_back(records: list[tuple[bytes, str]]) -> None:
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName=STREAM, ShardCount=1)
    puts = [{"Data": data, "PartitionKey": key} for data, key in records]
    body = cbor2.dumps({"StreamName": STREAM, "Records": puts})
    assert core.handle_cbor("PutRecords", body).status == 200
    iterator = core.call(
        "GetShardIterator",
        StreamName=STREAM,
        ShardId="shardId-000000000000",
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    reply = core.handle_cbor("GetRecords", cbor2.dumps({"ShardIterator": iterator}))
    found = decode(reply.body)["Records"]
    assert [(record["Data"], record["PartitionKey"]) for record in found] == records
