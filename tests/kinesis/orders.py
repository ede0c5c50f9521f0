"""The stream `orders` on LocalKinesis, and calls of its client."""

from __future__ import annotations

import asyncio

from streamproc.config import StreamConfig
from streamproc.kinesis.api import PutEntry
from streamproc.kinesis.client import KinesisClient
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.quiet import QuietApi
from streamproc.testing import LocalKinesis

FIRST = "shardId-000000000000"


def config(kinesis: LocalKinesis, name: str = "orders") -> StreamConfig:
    return StreamConfig(name=name, endpoint_url=kinesis.endpoint_url)


async def put(client: KinesisClient, count: int) -> list[str]:
    results = await client.put_records(
        [PutEntry(data=b"%d" % number, partition_key="k") for number in range(count)]
    )
    numbers = [result.sequence_number for result in results]
    return [number for number in numbers if number is not None]


async def ask_at_once(quiet: QuietApi, iterator: str) -> GetRecordsResult:
    answers: asyncio.Queue[Answer | OSError] = asyncio.Queue()
    assert quiet.ask_at_once([(iterator, 10, answers.put_nowait)])
    return quiet.read_answer(await answers.get())
