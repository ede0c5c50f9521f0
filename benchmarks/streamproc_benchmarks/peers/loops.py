"""What the worker is compared with: consumers that read and decode, and do nothing else.

Neither removes duplicates, keeps state, commits, or survives a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from aiobotocore.session import get_session

from streamproc.config import ReadConfig, StreamConfig
from streamproc.events.envelope import read_envelope
from streamproc.events.registry import EventRegistry
from streamproc.kinesis.client import open_kinesis
from streamproc.position import TRIM_HORIZON
from streamproc_benchmarks.noop import BenchmarkEvent
from streamproc_benchmarks.progress import Progress

__all__ = ["run_plain", "run_typed"]

_LIMIT = 10_000
# It stands still while others have their turn: no call may be given up for that.
_STANDSTILL_S = 600.0


async def run_plain(endpoint_url: str, stream: str, progress: Progress) -> None:
    """Read with plain aiobotocore and turn each record's JSON into a dict with orjson."""
    async with get_session().create_client(
        "kinesis", region_name="us-east-1", endpoint_url=endpoint_url
    ) as client:

        async def consume(shard: str) -> None:
            answer = await client.get_shard_iterator(
                StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )
            progress.reading(shard)
            iterator = answer["ShardIterator"]
            while True:
                answer = await client.get_records(ShardIterator=iterator, Limit=_LIMIT)
                records = answer["Records"]
                for record in records:
                    orjson.loads(record["Data"])
                _note(progress, shard, [record["SequenceNumber"] for record in records])
                iterator = answer["NextShardIterator"]
                if not answer["MillisBehindLatest"]:
                    await _wait_at_tip()

        listed = await client.list_shards(StreamName=stream)
        await _until_finished([s["ShardId"] for s in listed["Shards"]], consume, progress)


async def run_typed(endpoint_url: str, stream: str, progress: Progress) -> None:
    """Read with our client and decode each record into its typed event, envelope and all."""
    config = StreamConfig(name=stream, region="us-east-1", endpoint_url=endpoint_url)
    read = ReadConfig(timeout=_STANDSTILL_S)
    registry = EventRegistry([BenchmarkEvent])
    async with open_kinesis(config, read) as client:

        async def consume(shard: str) -> None:
            iterator: str | None = await client.shard_iterator(shard, TRIM_HORIZON)
            progress.reading(shard)
            while iterator is not None:
                answer = await client.get_records(iterator, _LIMIT)
                for record in answer.records:
                    envelope = read_envelope(record.data)
                    reading = registry.reading(envelope.type)
                    assert reading is not None, "the stream holds BenchmarkEvents only"
                    reading.decoders[0](envelope.data)
                _note(progress, shard, [record.sequence_number for record in answer.records])
                iterator = answer.next_shard_iterator
                if not answer.millis_behind_latest:
                    await _wait_at_tip()

        shards = [shard.shard_id for shard in await client.list_shards()]
        await _until_finished(shards, consume, progress)


def _note(progress: Progress, shard: str, sequences: list[Any]) -> None:
    if sequences:
        progress.done(shard, sequences)


async def _wait_at_tip() -> None:
    # As often as a worker asks by default, or the latencies would compare intervals.
    await asyncio.sleep(ReadConfig().poll_interval)


async def _until_finished(
    shards: list[str], consume: Callable[[str], Coroutine[Any, Any, None]], progress: Progress
) -> None:
    async def stop_when_finished() -> None:
        await progress.finished.wait()
        for task in tasks:
            task.cancel()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(consume(shard)) for shard in shards]
        group.create_task(stop_when_finished())
