"""What the client makes of failures, from a real HTTP endpoint, and of mistakes in settings."""

from __future__ import annotations

import re
import socket

import pytest

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import ConfigError, StreamError
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    InvalidArgumentError,
    MalformedResponseError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from streamproc.position import TRIM_HORIZON, Position
from streamproc.testing import LocalKinesis

from .orders import FIRST, ask_at_once, config, put


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


async def test_a_region_that_is_none_is_told_with_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"stream\.region .*'eu west'"):
        async with open_kinesis(StreamConfig(name="s", region="eu west")):
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
