from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from aiobotocore.parsers import create_parser
from aiobotocore.session import AioSession
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.codec import RESULT_KEY, TypedParserFactory, decode_get_records
from streamproc.kinesis.errors import MalformedResponseError, TransientError
from streamproc.kinesis.records import Record

CHILD = {
    "ShardId": "shardId-000000000001",
    "ParentShards": ["shardId-000000000000"],
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "99"},
}

records = st.builds(
    Record,
    sequence_number=st.integers(0, 2**186).map(str),
    approximate_arrival_timestamp=st.integers(0, 4_102_444_800_000).map(lambda ms: ms / 1000),
    data=st.binary(max_size=300),
    partition_key=st.text(min_size=1, max_size=256),
)


def as_json(record: Record) -> dict[str, Any]:
    return {
        "SequenceNumber": record.sequence_number,
        "ApproximateArrivalTimestamp": record.approximate_arrival_timestamp,
        "Data": base64.b64encode(record.data).decode(),
        "PartitionKey": record.partition_key,
        "EncryptionType": "KMS",
    }


def body(**members: Any) -> bytes:
    return json.dumps(
        {"Records": [], "NextShardIterator": "next", "MillisBehindLatest": 0} | members
    ).encode()


@given(st.lists(records, max_size=20), st.integers(0, 10**9))
def test_any_records_come_back_as_they_were(sent: list[Record], behind: int) -> None:
    encoded = body(Records=[as_json(record) for record in sent], MillisBehindLatest=behind)
    result = decode_get_records(encoded)
    assert result.records == sent
    assert result.millis_behind_latest == behind
    assert result.next_shard_iterator == "next"
    assert result.child_shards == []
    assert result.wire_bytes == len(encoded)


def test_a_time_in_scientific_notation_keeps_its_milliseconds() -> None:
    # As the API page writes it.
    text = body(Records=[as_json(Record("1", 0.25, b"", "k"))]).replace(
        b"0.25", b"1.441215410867E9"
    )
    assert decode_get_records(text).records[0].approximate_arrival_timestamp == 1441215410.867


def test_the_end_of_a_shard_names_its_children() -> None:
    result = decode_get_records(body(NextShardIterator=None, ChildShards=[CHILD]))
    assert result.next_shard_iterator is None
    (child,) = result.child_shards
    assert child.shard_id == "shardId-000000000001"
    assert child.parent_shards == ["shardId-000000000000"]
    assert child.hash_key_range.ending_hash_key == "99"


def test_members_that_servers_leave_out_have_defaults() -> None:
    result = decode_get_records(b'{"Records":[]}')
    assert result.next_shard_iterator is None
    assert result.millis_behind_latest == 0
    assert result.child_shards == []


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_a_body_cut_anywhere_is_malformed(sent: list[Record], data: st.DataObject) -> None:
    whole = body(Records=[as_json(record) for record in sent])
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedResponseError):
        decode_get_records(whole[:cut])


@pytest.mark.parametrize(
    "broken",
    [
        b"<html>Service Unavailable</html>",
        b"[]",
        b'{"NextShardIterator":"next"}',
        b'{"Records":[{"SequenceNumber":"1"}]}',
        b'{"Records":[],"NextShardIterator":"\xff"}',
        body(Records=[as_json(Record("1", 0.0, b"a", "k")) | {"Data": "no base64!"}]),
        body(ChildShards=[CHILD]),
        body(NextShardIterator=None, ChildShards=[CHILD | {"ParentShards": []}]),
    ],
)
def test_an_answer_that_cannot_be_true_is_malformed_and_may_be_asked_again(broken: bytes) -> None:
    with pytest.raises(MalformedResponseError) as raised:
        decode_get_records(broken)
    assert isinstance(raised.value, TransientError)


async def received(
    operation: str, response_body: bytes, status: int = 200
) -> tuple[dict[str, Any], Any]:
    """Return a response as the endpoint hands it to a parser, and its output shape."""
    model = (await AioSession().get_service_model("kinesis")).operation_model(operation)
    response = {
        "status_code": status,
        "headers": {"x-amzn-requestid": "r-1"},
        "body": response_body,
        "context": {"operation_name": operation},
    }
    return response, model.output_shape


async def parse(
    operation: str, response_body: bytes, status: int = 200
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the typed and what aiobotocore's parser make of a response."""
    response, shape = await received(operation, response_body, status)
    typed = await TypedParserFactory().create_parser("json").parse(response, shape)
    plain = await create_parser("json").parse(response, shape)
    return typed, plain


async def test_the_parser_agrees_with_botocores_and_keeps_the_metadata() -> None:
    sent = [
        Record(str(number), number / 8, bytes([number]) * number, "ключ") for number in range(9)
    ]
    typed, plain = await parse("GetRecords", body(Records=[as_json(one) for one in sent]))
    assert typed["ResponseMetadata"] == plain["ResponseMetadata"]
    result = typed[RESULT_KEY]
    assert result.next_shard_iterator == plain["NextShardIterator"]
    assert [
        (r.sequence_number, r.approximate_arrival_timestamp, r.data, r.partition_key)
        for r in result.records
    ] == [
        (
            r["SequenceNumber"],
            r["ApproximateArrivalTimestamp"].timestamp(),
            r["Data"],
            r["PartitionKey"],
        )
        for r in plain["Records"]
    ]


@pytest.mark.parametrize(
    ("operation", "response_body", "status"),
    [
        ("ListShards", b"<html>no</html>", 500),
        ("PutRecords", b'{"FailedRecordCount":0,"Records":[]}', 200),
        ("GetRecords", b'{"__type":"ExpiredIteratorException","message":"old"}', 400),
        ("GetRecords", b"<html>no</html>", 503),
        ("GetRecords", b"", 500),
    ],
)
async def test_everything_else_is_left_to_botocore(
    operation: str, response_body: bytes, status: int
) -> None:
    typed, plain = await parse(operation, response_body, status)
    assert typed == plain
    assert RESULT_KEY not in typed


WHOLE_LIST = b"""{"Shards": [{
    "ShardId": "shardId-000000000002",
    "ParentShardId": "shardId-000000000000",
    "AdjacentParentShardId": "shardId-000000000001",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
    "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"}
}], "NextToken": "t"}"""


@pytest.mark.parametrize(
    "response_body", [WHOLE_LIST, b'{"Shards":[]}', b"{}", b"<html>no</html>", b""]
)
async def test_a_list_of_shards_is_what_botocore_makes_of_it(response_body: bytes) -> None:
    typed, plain = await parse("ListShards", response_body)
    assert typed == plain


def test_one_parser_serves_a_protocol_and_settings_reach_it() -> None:
    factory = TypedParserFactory()
    first = factory.create_parser("json")
    assert factory.create_parser("json") is first
    factory.set_parser_defaults(timestamp_parser=str)
    assert factory.create_parser("json") is not first


async def test_decoding_costs_a_fraction_of_botocores_parser() -> None:
    """It is about a thirtieth; a tenth leaves room for a busy machine."""
    sent = [Record(str(10**55 + number), 1.5, b"x" * 405, "key") for number in range(2_000)]
    response, shape = await received("GetRecords", body(Records=[as_json(one) for one in sent]))

    async def cost(parser: Any) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            await parser.parse(response, shape)
            times.append(time.process_time() - started)
        return min(times)

    typed = await cost(TypedParserFactory().create_parser("json"))
    assert typed * 10 < await cost(create_parser("json"))
