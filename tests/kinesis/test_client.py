"""The client against a real HTTP endpoint."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import ConfigError, StreamError
from streamproc.kinesis import client as client_module
from streamproc.kinesis.api import PutEntry
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    InvalidArgumentError,
    MalformedResponseError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.quiet import QuietApi
from streamproc.position import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamproc.testing import LocalKinesis

FIRST = "shardId-000000000000"


def config(kinesis: LocalKinesis, name: str = "orders") -> StreamConfig:
    return StreamConfig(name=name, endpoint_url=kinesis.endpoint_url)


@pytest.fixture(params=["direct", "aiobotocore"])
async def client(
    request: pytest.FixtureRequest, local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KinesisClient]:
    """A client whose retries take no time, with either way of calling GetRecords."""

    async def no_wait(seconds: float) -> None:
        assert seconds > 0

    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    read = ReadConfig(client=request.param)
    async with open_kinesis(config(local_kinesis), read) as opened:
        assert (opened._direct is not None) == (request.param == "direct")
        monkeypatch.setattr(opened, "_sleep", no_wait)
        yield opened


async def put(client: KinesisClient, count: int) -> list[str]:
    results = await client.put_records(
        [PutEntry(data=b"%d" % number, partition_key="k") for number in range(count)]
    )
    numbers = [result.sequence_number for result in results]
    return [number for number in numbers if number is not None]


async def read(
    client: KinesisClient, position: Position, *, inclusive: bool = False
) -> list[bytes]:
    iterator = await client.shard_iterator(FIRST, position, inclusive=inclusive)
    result = await client.get_records(iterator, 1_000)
    return [record.data for record in result.records]


async def ask_at_once(quiet: QuietApi, iterator: str) -> GetRecordsResult:
    answers: asyncio.Queue[Answer | OSError] = asyncio.Queue()
    assert quiet.ask_at_once(iterator, 10, answers.put_nowait)
    return quiet.read_answer(await answers.get())


async def test_a_call_made_at_once_brings_what_another_does(client: KinesisClient) -> None:
    await put(client, 3)
    iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
    if client.quiet is None:
        assert client._direct is None, "aiobotocore knows coroutines only"
        return
    assert not client.quiet.ask_at_once(iterator, 10, print), "no connection, no credentials yet"
    usual = await client.get_records(iterator, 10)
    assert (await ask_at_once(client.quiet, iterator)).records == usual.records


async def test_credentials_are_asked_for_again_after_a_minute(
    local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    async with open_kinesis(config(local_kinesis)) as client:
        iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
        await client.get_records(iterator, 10)
        assert client.quiet is not None
        await ask_at_once(client.quiet, iterator)
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        assert not client.quiet.ask_at_once(iterator, 10, print)
        await client.get_records(iterator, 10)
        await ask_at_once(client.quiet, iterator)


async def test_records_come_back_as_they_were_put(client: KinesisClient) -> None:
    results = await client.put_records(
        [
            PutEntry(data=b"\x00\xff", partition_key="ключ"),
            PutEntry(data=b"", partition_key="k", explicit_hash_key="7"),
        ]
    )
    assert [result.shard_id for result in results] == [FIRST, FIRST]
    answer = await client.get_records(await client.shard_iterator(FIRST, TRIM_HORIZON), 10)
    assert [(one.data, one.partition_key) for one in answer.records] == [
        (b"\x00\xff", "ключ"),
        (b"", "k"),
    ]
    assert [one.sequence_number for one in answer.records] == [
        result.sequence_number for result in results
    ]
    assert answer.millis_behind_latest == 0
    assert answer.next_shard_iterator is not None
    assert answer.wire_bytes > 100


async def test_the_limit_is_kept(client: KinesisClient) -> None:
    await put(client, 5)
    answer = await client.get_records(await client.shard_iterator(FIRST, TRIM_HORIZON), 2)
    assert len(answer.records) == 2
    assert answer.millis_behind_latest > 0


async def test_a_single_failed_entry_is_told_with_its_code(
    client: KinesisClient, local_kinesis: LocalKinesis
) -> None:
    local_kinesis.faults.fail_records(skip=1)
    entries = [PutEntry(data=b"x", partition_key="k")] * 3
    ok, failed, fine = await client.put_records(entries)
    assert ok.error_code is None
    assert fine.error_code is None
    assert failed.sequence_number is None
    assert failed.error_code == "ProvisionedThroughputExceededException"


async def test_positions_become_the_iterators_that_follow_them(client: KinesisClient) -> None:
    numbers = await put(client, 4)
    everything = [b"0", b"1", b"2", b"3"]
    assert await read(client, TRIM_HORIZON) == everything
    assert await read(client, LATEST) == []
    assert await read(client, Position(numbers[1])) == [b"2", b"3"]
    # The record may be an aggregate that was passed in part: then it has to come again.
    assert await read(client, Position(numbers[1]), inclusive=True) == [b"1", b"2", b"3"]
    assert await read(client, Position("AT_TIMESTAMP", timestamp=1.5)) == everything


async def test_a_time_keeps_its_milliseconds() -> None:
    now = 2_000_000_000.0
    async with LocalKinesis(clock=lambda: now) as kinesis:
        kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
        async with open_kinesis(config(kinesis)) as client:
            for number in range(3):
                await client.put_records([PutEntry(data=b"%d" % number, partition_key="k")])
                now += 0.25
            since = Position("AT_TIMESTAMP", timestamp=2_000_000_000.25)
            assert await read(client, since) == [b"1", b"2"]


async def test_a_finished_shard_is_not_read_again(client: KinesisClient) -> None:
    with pytest.raises(StreamError, match="finished"):
        await client.shard_iterator(FIRST, SHARD_END)


async def test_all_pages_of_shards_are_listed_with_their_lineage(
    local_kinesis: LocalKinesis, client: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamproc.kinesis.client._LIST_PAGE", 2)
    local_kinesis.core.call(
        "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(2**127)
    )
    left, right = "shardId-000000000001", "shardId-000000000002"
    local_kinesis.core.call(
        "MergeShards", StreamName="orders", ShardToMerge=left, AdjacentShardToMerge=right
    )
    shards = await client.list_shards()
    assert [shard.shard_id for shard in shards] == [FIRST, left, right, "shardId-000000000003"]
    assert [shard.parents for shard in shards] == [(), (FIRST,), (FIRST,), (left, right)]
    assert [shard.is_open for shard in shards] == [False, False, False, True]
    assert shards[1].starting_hash_key == "0"
    assert shards[1].ending_hash_key == str(2**127 - 1)
    assert int(shards[3].starting_sequence_number) > int(shards[0].starting_sequence_number)


async def test_shards_are_listed_as_of_a_position() -> None:
    now = 2_000_000_000.0
    async with LocalKinesis(clock=lambda: now) as kinesis:
        kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
        now += 1
        before = Position("AT_TIMESTAMP", timestamp=now)
        now += 1
        kinesis.core.call(
            "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(2**127)
        )
        left, right = "shardId-000000000001", "shardId-000000000002"
        async with open_kinesis(config(kinesis)) as client:
            listed = {
                at: [shard.shard_id for shard in await client.list_shards(at)]
                for at in (TRIM_HORIZON, LATEST, before)
            }
    assert list(listed.values()) == [[FIRST], [left, right], [FIRST]]


async def test_a_listing_whose_token_expired_starts_over(
    local_kinesis: LocalKinesis, client: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamproc.kinesis.client._LIST_PAGE", 1)
    local_kinesis.core.call("CreateStream", StreamName="wide", ShardCount=3)
    expired = local_kinesis.faults.error("ListShards", code="ExpiredNextTokenException", skip=1)
    async with open_kinesis(config(local_kinesis, "wide")) as wide:
        shards = await wide.list_shards()
    assert expired.fired == 1
    assert [shard.shard_id[-1] for shard in shards] == ["0", "1", "2"]


async def test_a_stream_is_described(client: KinesisClient) -> None:
    summary = await client.describe_stream()
    assert (summary.name, summary.status, summary.open_shard_count) == ("orders", "ACTIVE", 1)
    assert summary.arn.endswith(":stream/orders")
    assert summary.retention_hours == 24
    assert summary.creation_timestamp > 1.7e9
    assert summary.encryption == "NONE"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ProvisionedThroughputExceededException", 400, ThrottledError),
        ("LimitExceededException", 400, ThrottledError),
        ("ThrottlingException", 400, ThrottledError),
        ("KMSThrottlingException", 400, ThrottledError),
        ("SomethingNew", 429, ThrottledError),
        ("ExpiredIteratorException", 400, ExpiredIteratorError),
        # A limit or an iterator that Kinesis does not take: only another iterator can help.
        ("InvalidArgumentException", 400, ExpiredIteratorError),
        ("InternalFailure", 500, TransientError),
        ("ServiceUnavailable", 503, TransientError),
        ("SomethingNew", 500, TransientError),
        ("ResourceInUseException", 400, TransientError),
        ("ResourceNotFoundException", 400, NotFoundError),
        ("AccessDeniedException", 400, StreamError),
        ("UnrecognizedClientException", 400, StreamError),
        ("InvalidSignatureException", 400, StreamError),
        ("ExpiredTokenException", 400, StreamError),
        ("KMSAccessDeniedException", 400, StreamError),
        ("KMSDisabledException", 400, StreamError),
        ("SomethingNew", 400, StreamError),
    ],
)
async def test_codes_become_typed_errors_after_one_request(
    local_kinesis: LocalKinesis,
    client: KinesisClient,
    code: str,
    status: int,
    kind: type[Exception],
) -> None:
    iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
    fault = local_kinesis.faults.error(
        "GetRecords", code=code, status=status, message="as planned", count=None
    )
    with pytest.raises(kind) as raised:
        await client.get_records(iterator, 10)
    assert type(raised.value) is kind
    assert fault.fired == 1
    if client.quiet is not None:
        with pytest.raises(kind, match=re.escape(str(raised.value))):
            await ask_at_once(client.quiet, iterator)
    for part in (
        code,
        "as planned",
        "GetRecords",
        "'orders'",
        "us-east-1",
        client.target.endpoint_url,
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDeniedException", "allow kinesis:GetRecords"),
        ("UnrecognizedClientException", "access key id"),
        ("InvalidSignatureException", "clock"),
        ("KMSAccessDeniedException", "kms:Decrypt"),
    ],
)
async def test_a_refusal_says_what_to_do(
    local_kinesis: LocalKinesis, client: KinesisClient, code: str, advice: str
) -> None:
    local_kinesis.faults.error("DescribeStreamSummary", code=code)
    with pytest.raises(StreamError, match=advice):
        await client.describe_stream()


async def test_a_missing_stream_is_named_with_region_and_endpoint(
    local_kinesis: LocalKinesis,
) -> None:
    async with open_kinesis(config(local_kinesis, "nowhere")) as client:
        with pytest.raises(NotFoundError) as raised:
            await client.describe_stream()
    for part in ("nowhere", "us-east-1", local_kinesis.endpoint_url, "check stream.name"):
        assert part in str(raised.value)


async def test_a_number_of_another_stream_is_refused_for_good(client: KinesisClient) -> None:
    with pytest.raises(InvalidArgumentError, match=r"did not come from\s+this stream"):
        await client.shard_iterator(FIRST, Position("42"))


async def test_without_credentials_the_message_says_where_to_put_them(
    client: KinesisClient, local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_kinesis(config(local_kinesis)) as anonymous:
        with pytest.raises(StreamError, match="AWS_ACCESS_KEY_ID"):
            await anonymous.describe_stream()


async def test_half_of_the_credentials_is_refused_at_once(
    local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StreamError, match="AWS_SECRET_ACCESS_KEY"):
        async with open_kinesis(config(local_kinesis)):
            pass


async def test_a_missing_profile_is_named(
    local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(StreamError, match="absent"):
        async with open_kinesis(config(local_kinesis)):
            pass


async def test_without_a_region_the_message_says_how_to_set_it() -> None:
    with pytest.raises(ConfigError, match=r"stream\.region"):
        async with open_kinesis(StreamConfig(name="orders")):
            pass


async def test_an_endpoint_that_is_no_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"stream\.endpoint_url = 'not a url'"):
        async with open_kinesis(StreamConfig(name="orders", endpoint_url="not a url")):
            pass


async def test_a_refused_connection_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with open_kinesis(StreamConfig(name="orders", endpoint_url=url)) as client:
            with pytest.raises(TransientError, match="cannot connect") as raised:
                await client.get_records("iterator", 1)
    assert url in str(raised.value)
    assert "stream.endpoint_url" in str(raised.value)


async def test_a_silent_server_is_given_up_after_the_timeout(local_kinesis: LocalKinesis) -> None:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    local_kinesis.faults.latency("GetShardIterator", 5.0)
    async with open_kinesis(config(local_kinesis), ReadConfig(timeout=0.05)) as client:
        with pytest.raises(TransientError, match="Timeout"):
            await client.shard_iterator(FIRST, TRIM_HORIZON)
        assert await client.shard_iterator(FIRST, TRIM_HORIZON)


async def test_a_connection_lost_in_the_middle_of_the_answer_is_transient(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    await put(client, 3)
    iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
    local_kinesis.faults.truncate_body()
    local_kinesis.faults.drop_connection("GetRecords")
    for _ in range(2):
        with pytest.raises(TransientError):
            await client.get_records(iterator, 10)
    assert len((await client.get_records(iterator, 10)).records) == 3
    assert local_kinesis.faults.fired == 2


async def test_an_unreadable_answer_is_malformed(
    local_kinesis: LocalKinesis, client: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
    handle = local_kinesis.core.handle
    monkeypatch.setattr(
        local_kinesis.core,
        "handle",
        lambda operation, body: handle(operation, body)._replace(body=b'{"Records":[{'),
    )
    with pytest.raises(MalformedResponseError):
        await client.get_records(iterator, 10)
    with pytest.raises(TransientError):
        await client.shard_iterator(FIRST, TRIM_HORIZON)


async def test_listing_and_describing_are_tried_again(
    local_kinesis: LocalKinesis, client: KinesisClient
) -> None:
    local_kinesis.faults.server_error("ListShards", count=2)
    local_kinesis.faults.error("ListShards", code="LimitExceededException", count=2)
    assert len(await client.list_shards()) == 1
    local_kinesis.faults.drop_connection("DescribeStreamSummary", count=4)
    assert (await client.describe_stream()).name == "orders"
    assert local_kinesis.faults.fired == 8


async def test_trying_again_ends(local_kinesis: LocalKinesis, client: KinesisClient) -> None:
    fault = local_kinesis.faults.server_error("ListShards", count=None)
    with pytest.raises(TransientError):
        await client.list_shards()
    assert fault.fired == 5


async def test_connections_are_used_again_and_send_without_delay(
    local_kinesis: LocalKinesis, client: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []
    open_socket = client_module._open_socket

    def open_and_keep(address: Any) -> socket.socket:
        opened.append(open_socket(address))
        return opened[-1]

    monkeypatch.setattr(client_module, "_open_socket", open_and_keep)
    async with open_kinesis(config(local_kinesis)) as fresh:
        for _ in range(20):
            await fresh.shard_iterator(FIRST, TRIM_HORIZON)
        (only,) = opened
        assert only.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert only.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


async def test_behind_a_proxy_aiobotocore_makes_every_call(
    local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    async with open_kinesis(config(local_kinesis)) as client:
        assert client._direct is None
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with open_kinesis(config(local_kinesis)) as client:
        assert client._direct is not None


async def test_a_records_call_costs_a_connection_once(local_kinesis: LocalKinesis) -> None:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    async with open_kinesis(config(local_kinesis)) as client:
        iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
        for _ in range(20):
            iterator = (await client.get_records(iterator, 10)).next_shard_iterator or ""
        assert client._direct is not None
        assert len(client._direct._pool._free) == 1
