"""The HTTP shell, asked byte by byte; and the clients people use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamproc.testing import LocalKinesis, LocalKinesisCore
from streamproc.testing.localkinesis import serve

Answer = tuple[int, dict[str, str], bytes]


class Connection:
    """A raw connection to the endpoint."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body


@pytest.fixture
async def connect(local_kinesis: LocalKinesis) -> Callable[[], Any]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection(local_kinesis.host, local_kinesis.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    return opened


def request(operation: str, body: str, *more: str, content_type: str | None = None) -> str:
    lines = [
        "POST / HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-Amz-Target: Kinesis_20131202.{operation}",
        f"Content-Type: {content_type or 'application/x-amz-json-1.1'}",
        f"Content-Length: {len(body)}",
        *more,
    ]
    return "\r\n".join([*lines, "", body])


async def test_an_answer_has_aws_headers(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send(request("ListStreams", "{}") + request("ListStreams", "{}"))
        first, second = await http.answer(), await http.answer()
    assert first[0] == 200
    assert first[1]["content-type"] == "application/x-amz-json-1.1"
    assert first[1]["x-amzn-requestid"] != second[1]["x-amzn-requestid"]


async def test_an_error_names_its_type(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send(request("DescribeStreamSummary", '{"StreamName":"nope"}'))
        status, headers, body = await http.answer()
    assert (status, headers["x-amzn-errortype"]) == (400, "ResourceNotFoundException")
    assert json.loads(body)["__type"] == "ResourceNotFoundException"


async def test_requests_in_one_segment_are_answered_in_order(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send(
            request("CreateStream", '{"StreamName":"a","ShardCount":1}')
            + request("ListStreams", "{}")
            + request("DeleteStream", '{"StreamName":"a"}')
            + request("ListStreams", "{}")
        )
        answers = [await http.answer() for _ in range(4)]
    assert [json.loads(answers[i][2])["StreamNames"] for i in (1, 3)] == [["a"], []]


async def test_a_request_may_come_in_single_bytes(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        for byte in request("ListStreams", '{"Limit": 5}'):
            http.send(byte)
            await http.writer.drain()
        assert (await http.answer())[0] == 200


async def test_a_delayed_answer_holds_back_the_next(
    connect: Callable[[], Any], local_kinesis: LocalKinesis
) -> None:
    local_kinesis.faults.latency("ListStreams", 0.05)
    async with connect() as http:
        http.send(request("ListStreams", "{}") + request("DescribeLimits", "{}"))
        assert b"StreamNames" in (await http.answer())[2]
        assert b"ShardLimit" in (await http.answer())[2]


async def test_another_content_type_is_refused_with_a_reason(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send(request("ListStreams", "{}", content_type="text/xml"))
        status, _, body = await http.answer()
    assert status == 400
    assert (
        "'text/xml' is not served: it takes application/x-amz-json-1.1 or"
        in (json.loads(body)["message"])
    )


async def test_an_unknown_target_is_refused(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send("GET /elsewhere HTTP/1.1\r\n\r\n")
        status, headers, _ = await http.answer()
    assert (status, headers["x-amzn-errortype"]) == (400, "UnknownOperationException")


async def test_health_is_answered(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = await http.answer()
    assert (status, json.loads(body)) == (200, {"status": "ok"})


async def test_a_client_that_asks_first_is_told_to_continue(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        head, _, body = request("ListStreams", "{}", "Expect: 100-continue").rpartition("\r\n")
        http.send(head + "\r\n")
        assert (await http.reader.readline()) == b"HTTP/1.1 100 Continue\r\n"
        await http.reader.readline()
        http.send(body)
        assert (await http.answer())[0] == 200


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nonsense\r\n\r\n", 400),
        ("GET / SPDY/3\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("GET / HTTP/1.1\r\nX: " + "x" * 70_000, 431),
    ],
)
async def test_what_is_not_understood_is_refused_and_the_connection_closed(
    connect: Callable[[], Any], text: str, status: int
) -> None:
    async with connect() as http:
        http.send(text)
        assert (await http.answer())[0] == status
        assert await http.reader.read() == b""


async def test_a_connection_is_closed_on_request(connect: Callable[[], Any]) -> None:
    async with connect() as http:
        http.send(request("ListStreams", "{}", "Connection: close"))
        assert (await http.answer())[0] == 200
        assert await http.reader.read() == b""


async def test_a_defect_is_an_internal_failure(
    connect: Callable[[], Any],
    local_kinesis: LocalKinesis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(local_kinesis.core, "handle", defect)
    async with connect() as http:
        http.send(request("ListStreams", "{}"))
        status, headers, _ = await http.answer()
    assert (status, headers["x-amzn-errortype"]) == (500, "InternalFailure")
    assert "a defect" in caplog.text


async def test_an_outage_keeps_port_and_records(local_kinesis: LocalKinesis) -> None:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    port = local_kinesis.port
    reader, writer = await asyncio.open_connection(local_kinesis.host, port)
    await local_kinesis.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(local_kinesis.host, port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await local_kinesis.start()
    assert local_kinesis.port == port
    assert local_kinesis.core.call("ListStreams")["StreamNames"] == ["orders"]


async def test_an_endpoint_does_not_start_twice(local_kinesis: LocalKinesis) -> None:
    with pytest.raises(RuntimeError, match="already listening"):
        await local_kinesis.start()


async def test_two_endpoints_may_share_an_account() -> None:
    core = LocalKinesisCore()
    async with LocalKinesis(core=core) as one, LocalKinesis(core=core) as other:
        one.core.call("CreateStream", StreamName="orders", ShardCount=1)
        assert other.core.call("ListStreams")["StreamNames"] == ["orders"]
    with pytest.raises(TypeError, match="throttling"):
        LocalKinesis(core=core, throttling=True)


async def test_serve_runs_until_cancelled_with_its_streams() -> None:
    ready: asyncio.Future[LocalKinesis] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(port=0, streams={"orders": 3}, on_ready=ready.set_result))
    kinesis = await ready
    shards = kinesis.core.call("ListShards", StreamName="orders")["Shards"]
    assert len(shards) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(kinesis.host, kinesis.port)


async def test_boto3_works_unchanged(local_kinesis: LocalKinesis) -> None:
    def use_boto3() -> list[bytes]:
        client = boto3.client(
            "kinesis",
            endpoint_url=local_kinesis.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.create_stream(StreamName="orders", ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName="orders")
        client.put_records(
            StreamName="orders",
            Records=[{"Data": b"%d" % i, "PartitionKey": str(i)} for i in range(3)],
        )
        shards = [
            shard["ShardId"]
            for page in client.get_paginator("list_shards").paginate(StreamName="orders")
            for shard in page["Shards"]
        ]
        iterator = client.get_shard_iterator(
            StreamName="orders", ShardId=shards[0], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = client.get_records(ShardIterator=iterator)["Records"]
        client.delete_stream(StreamName="orders")
        client.get_waiter("stream_not_exists").wait(StreamName="orders")
        client.close()
        return [record["Data"] for record in records]

    assert await asyncio.to_thread(use_boto3) == [b"0", b"1", b"2"]
