"""A worker that does what KCL does: everything is read and handled, nothing is committed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis.asyncio

from streamproc.testing import LocalKinesis
from streamproc_benchmarks.consumer import ConsumerSpec
from streamproc_benchmarks.processes import start_child
from streamproc_benchmarks.progress import Consumed, middle
from streamproc_benchmarks.verification import verify
from streamproc_benchmarks.workloads import make_entries

STREAM, RECORDS = "events", 3_000


def fill(kinesis: LocalKinesis) -> dict[str, list[str]]:
    kinesis.core.call("CreateStream", StreamName=STREAM, ShardCount=2)
    published: dict[str, list[str]] = {}
    for entry in make_entries("events", RECORDS, seed=1):
        put: dict[str, Any] = kinesis.core.call(
            "PutRecord", StreamName=STREAM, Data=entry.data, PartitionKey=entry.partition_key
        )
        published.setdefault(put["ShardId"], []).append(put["SequenceNumber"])
    return published


async def keys_of(redis_url: str) -> list[str]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        return [key async for key in client.scan_iter(count=1_000)]


@pytest.mark.process
async def test_it_keeps_its_place_in_the_leases_and_marks_nothing(
    local_kinesis: LocalKinesis, redis_url: str, tmp_path: Path
) -> None:
    published = fill(local_kinesis)
    result = tmp_path / "consumed"
    spec = ConsumerSpec(
        consumer="leased",
        core=None,
        endpoint_url=local_kinesis.endpoint_url,
        redis_url=redis_url,
        server_pid=None,
        redis_pid=None,
        stream=STREAM,
        shards=2,
        window=middle(RECORDS, 0.0),
        limit=30,
        result=str(result),
    )
    async with start_child("consumer", spec) as child:
        assert b"reading" in await child.line(30)
        assert b"done" in await child.line(30)
    account = await asyncio.to_thread(result.read_bytes)
    consumed = msgspec.msgpack.decode(account, type=Consumed)
    assert verify(published, consumed.by_shard()).is_clean
    assert consumed.counters["processed"] == RECORDS
    keys = await keys_of(redis_url)
    assert not [key for key in keys if ":seen" in key], "no dedupe marks"
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        (leases,) = [key for key in keys if "lease" in key and await client.type(key) == "hash"]
        rows = str(await client.hgetall(leases))
    for sequences in published.values():
        assert sequences[-1] in rows, "the lease holds the shard's last position"
