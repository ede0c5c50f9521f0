"""The endpoints that the suite runs against, and what its tests share.

The tests know AWS's API only: each gets a `Kinesis`, a thin set of questions around an aiobotocore
client, and a stream name that no other test uses.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from streamproc.testing import LocalKinesis

from . import kinesis_local_server
from .known_differences import KINESIS_LOCAL

_SESSION = AioSession()
TOP_HASH = 2**128 - 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name, _, parameters = item.name.partition("[")
        known = KINESIS_LOCAL.get(item.name) or KINESIS_LOCAL.get(name)
        if known is not None and "kinesis-local" in parameters:
            item.add_marker(pytest.mark.xfail(reason=known.reason, strict=known.always))


@pytest.fixture(scope="session")
def kinesis_local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = kinesis_local_server.why_not()
    if reason is not None:
        pytest.skip(f"kinesis-local: {reason}")
    with kinesis_local_server.running(tmp_path_factory.mktemp("kinesis-local")) as url:
        yield url


@pytest.fixture(params=["LocalKinesis", "kinesis-local"])
async def endpoint_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    if request.param == "kinesis-local":
        yield request.getfixturevalue("kinesis_local_url")
        return
    async with LocalKinesis() as local:
        yield local.endpoint_url


@pytest.fixture
async def kinesis(endpoint_url: str) -> AsyncIterator[Kinesis]:
    async with _SESSION.create_client(
        "kinesis",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=AioConfig(retries={"total_max_attempts": 1}, parameter_validation=False),
    ) as client:
        yield Kinesis(client, f"stream-{uuid.uuid4().hex}")


@dataclass(frozen=True)
class Kinesis:
    """A client, and the name of this test's stream."""

    client: Any
    stream: str

    async def create(self, shards: int = 1, **more: Any) -> None:
        await self.client.create_stream(StreamName=self.stream, ShardCount=shards, **more)
        await self.until_active()

    async def until_active(self) -> None:
        async with asyncio.timeout(20):
            while await self.status() != "ACTIVE":
                pass  # the request itself waits for the server

    async def status(self) -> str:
        summary = await self.client.describe_stream_summary(StreamName=self.stream)
        status: str = summary["StreamDescriptionSummary"]["StreamStatus"]
        return status

    async def shards(self, **arguments: Any) -> list[dict[str, Any]]:
        answer = await self.client.list_shards(StreamName=self.stream, **arguments)
        found: list[dict[str, Any]] = answer["Shards"]
        while "NextToken" in answer:
            answer = await self.client.list_shards(NextToken=answer["NextToken"])
            found += answer["Shards"]
        return found

    async def open_shards(self) -> list[dict[str, Any]]:
        """Open shards in the order of their hash ranges."""
        found = [
            shard
            for shard in await self.shards()
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
        return sorted(found, key=lambda shard: hash_range(shard)[0])

    async def put(self, data: bytes, key: str = "key", **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.put_record(
            StreamName=self.stream, Data=data, PartitionKey=key, **more
        )
        return answer

    async def put_many(self, records: list[tuple[str, bytes]]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.put_records(
            StreamName=self.stream,
            Records=[{"PartitionKey": key, "Data": data} for key, data in records],
        )
        return answer

    async def iterator(self, shard_id: str, kind: str = "TRIM_HORIZON", **more: Any) -> str:
        answer = await self.client.get_shard_iterator(
            StreamName=self.stream, ShardId=shard_id, ShardIteratorType=kind, **more
        )
        text: str = answer["ShardIterator"]
        return text

    async def get(self, iterator: str, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.get_records(ShardIterator=iterator, **more)
        return answer

    async def read_from(
        self, shard_id: str, kind: str = "TRIM_HORIZON", **more: Any
    ) -> list[bytes]:
        """Data of the first page from an iterator on."""
        page = await self.get(await self.iterator(shard_id, kind, **more))
        return [record["Data"] for record in page["Records"]]

    async def read_shard(self, shard_id: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """All records of a shard, up to its tip or end, and the last answer."""
        records: list[dict[str, Any]] = []
        iterator: str | None = await self.iterator(shard_id)
        while True:
            assert iterator is not None
            answer = await self.get(iterator)
            records += answer["Records"]
            iterator = answer.get("NextShardIterator")
            if iterator is None or (not answer["Records"] and not answer["MillisBehindLatest"]):
                return records, answer

    async def read_all(self) -> list[bytes]:
        """Data of all records, shard by shard, following ChildShards from the first shards on."""
        waiting = [
            shard["ShardId"] for shard in await self.shards() if "ParentShardId" not in shard
        ]
        done: set[str] = set()
        data: list[bytes] = []
        while waiting:
            shard_id = waiting.pop(0)
            records, last = await self.read_shard(shard_id)
            done.add(shard_id)
            data += [record["Data"] for record in records]
            waiting += [
                child["ShardId"]
                for child in last.get("ChildShards", [])
                if done.issuperset(child["ParentShards"]) and child["ShardId"] not in waiting
            ]
        return data


def hash_range(shard: dict[str, Any]) -> tuple[int, int]:
    held = shard["HashKeyRange"]
    return int(held["StartingHashKey"]), int(held["EndingHashKey"])


def assert_covers_everything(shards: list[dict[str, Any]]) -> None:
    """Assert that shards cover the hash range without gap or overlap."""
    ranges = sorted(hash_range(shard) for shard in shards)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == TOP_HASH
    assert [end + 1 for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]


@contextmanager
def refused(*codes: str) -> Iterator[Callable[[], str]]:
    """Assert that the block is answered with one of the error codes; gives the message after."""
    messages: list[str] = []
    with pytest.raises(ClientError) as caught:
        yield lambda: messages[0]
    error = caught.value.response["Error"]
    assert error["Code"] in codes, error
    messages.append(error["Message"])
