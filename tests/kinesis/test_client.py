"""The client against a real HTTP endpoint."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from streamproc.errors import StreamError
from streamproc.kinesis import client as client_module
from streamproc.kinesis.api import PutEntry
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.position import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamproc.testing import LocalKinesis

from .orders import FIRST, ask_at_once, config, put


async def read(
    client: KinesisClient, position: Position, *, inclusive: bool = False
) -> list[bytes]:
    iterator = await client.shard_iterator(FIRST, position, inclusive=inclusive)
    result = await client.get_records(iterator, 1_000)
    return [record.data for record in result.records]


async def test_a_call_made_at_once_brings_what_another_does(client: KinesisClient) -> None:
    await put(client, 3)
    iterator = await client.shard_iterator(FIRST, TRIM_HORIZON)
    if client.quiet is None:
        assert client._direct is None, "aiobotocore knows coroutines only"
        return
    assert not client.quiet.ask_at_once([(iterator, 10, print)]), (
        "no connection, no credentials yet"
    )
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
        assert not client.quiet.ask_at_once([(iterator, 10, print)])
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
