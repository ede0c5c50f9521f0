"""A consumer group under test: the stream, Redis, and workers in this process."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from streamproc.processor import Processor
from streamproc.settings import load_config
from streamproc.state.keys import partition_of_text
from streamproc.testing import LocalKinesis
from streamproc.worker import Worker
from tests.waiting import until
from tests.worker.ledger import Ledger

_FAST: dict[str, Any] = {
    "leases.duration": 2.0,
    "leases.scan_interval": 0.2,
    "leases.checkpoint_interval": 0.1,
    "stream.shard_sync_interval": 0.3,
    "read.min_interval": 0.01,
    "read.poll_interval": 0.02,
    "worker.drain_timeout": 10.0,
}


_numbers = itertools.count()


def _patient_client(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, retry=Retry(ExponentialBackoff(), 20))


def entry(number: int, account: str, entry_id: str | None = None) -> bytes:
    """Return the record data of one ledger entry."""
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "com.example.Entry.v1",
            "id": f"envelope-{account}-{number}",
            "source": "test",
            "time": "2026-01-01T00:00:00Z",
            "data": {
                "entry_id": entry_id or f"{account}-{number}",
                "account": account,
                "number": number,
            },
        }
    ).encode()


class Group:
    """Starts workers, publishes, and reads what Redis holds."""

    stream = "ledger"

    def __init__(self, kinesis: LocalKinesis, redis_url: str, shards: int) -> None:
        # The memory lease store is shared by a process's workers; tests must not share a group.
        self.name = f"books-{next(_numbers)}"
        self.kinesis = kinesis
        self.redis_url = redis_url
        self.defaults = dict(_FAST)
        self.workers: dict[Worker, asyncio.Task[None]] = {}
        self.redis = _patient_client(redis_url)
        kinesis.core.call("CreateStream", StreamName=self.stream, ShardCount=shards)

    def elsewhere(self, redis_url: str) -> Group:
        """Return the same group on another Redis, with no workers yet."""
        twin = copy.copy(self)
        twin.redis_url, twin.redis, twin.workers = redis_url, _patient_client(redis_url), {}
        return twin

    async def __aenter__(self) -> Self:
        await self.until(lambda: self._summary()["StreamStatus"] == "ACTIVE")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker, task in self.workers.items():
            worker.stop()
            if not task.done():
                await asyncio.wait([task], timeout=15)
            task.cancel()
        await asyncio.gather(*self.workers.values(), return_exceptions=True)
        await self.redis.aclose()

    def settings(self, **overrides: Any) -> dict[str, Any]:
        """Return the dotted settings of a worker of this group."""
        return {
            **self.defaults,
            "group": self.name,
            "stream.name": self.stream,
            "stream.region": "us-east-1",
            "stream.endpoint_url": self.kinesis.endpoint_url,
            "redis.url": self.redis_url,
            **{key.replace("__", "."): value for key, value in overrides.items()},
        }

    def start(self, *processors: Processor[Any], **overrides: Any) -> Worker:
        """Start a worker; settings as keyword arguments, ``read__max_records=5``."""
        config = load_config(None, {}, self.settings(**overrides))
        worker = Worker(config, processors or [Ledger()])
        self.workers[worker] = asyncio.create_task(worker.run())
        return worker

    async def stop(self, worker: Worker) -> None:
        """Stop a worker cleanly and wait for its end; raises what it raised."""
        worker.stop()
        await self.workers.pop(worker)

    async def kill(self, worker: Worker) -> None:
        """Cut a worker off as a crash would: no drain, no release."""
        worker._pool._draining = True  # a dead process does not start what it is handed
        for task in worker._pool._tasks.values():
            task.cancel()
        self.workers.pop(worker).cancel()

    def publish(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Put (partition key, data) records, in order."""
        entries = [
            {"PartitionKey": key, "Data": base64.b64encode(data).decode()} for key, data in records
        ]
        for first in range(0, len(entries), 500):
            answer = self.kinesis.core.call(
                "PutRecords", StreamName=self.stream, Records=entries[first : first + 500]
            )
            assert answer["FailedRecordCount"] == 0

    def publish_entries(self, numbers: Iterable[int], accounts: Sequence[str]) -> None:
        """Put every number for every account, accounts interleaved."""
        self.publish((account, entry(n, account)) for n in numbers for account in accounts)

    async def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> None:
        """Wait until a condition holds; a worker that ends by itself ends the waiting."""
        await until(condition, timeout, watch=self._raise_if_one_ended)

    def _raise_if_one_ended(self) -> None:
        for worker, task in self.workers.items():
            if task.done():
                task.result()
                raise AssertionError(f"{worker.worker_id} ended by itself")

    async def numbers(self, account: str) -> list[int]:
        """Return what the ledger booked for an account, in its order."""
        partition = partition_of_text(account, self.defaults.get("redis.partitions", 1))
        raw = await self.redis.hget(f"sp:{{{self.name}:{partition}}}:s:ledger:{account}", "d")  # type: ignore[misc]
        return [] if raw is None else json.loads(raw)["numbers"]  # type: ignore[no-any-return]

    async def until_booked(self, expected: Mapping[str, int], timeout: float = 30.0) -> None:
        """Wait until each account has that many numbers."""

        async def booked() -> bool:
            return all([len(await self.numbers(account)) >= n for account, n in expected.items()])

        await self.until(booked, timeout)

    async def booked_ids(self) -> list[str]:
        """Return the entry ids of all emitted events, in outbox order."""
        entries = await self.redis.xrange(f"sp:{{{self.name}:0}}:outbox")
        return [json.loads(fields[b"data"])["data"]["entry_id"] for _, fields in entries]

    async def dead_letters(self) -> list[dict[str, bytes]]:
        """Return the dead letters' fields, oldest first."""
        entries = await self.redis.xrange(f"sp:{{{self.name}:0}}:dlq")
        return [{k.decode(): v for k, v in fields.items()} for _, fields in entries]

    def counted(self, name: str) -> int:
        """Return a counter summed over all workers, shards that are gone included."""
        total = 0
        for worker in self.workers:
            status = worker.status()
            shards = [status.departed, *(shard.statistics for shard in status.shards)]
            total += sum(getattr(statistics, name) for statistics in shards)
        return total

    def shards_adopted(self, count: int) -> bool:
        """Tell whether `count` shards are being processed."""
        phases = [shard.phase for worker in self.workers for shard in worker.status().shards]
        return phases == ["processing"] * count

    def shard_ids(self) -> list[str]:
        """Return the ids of the stream's open shards."""
        shards = self.kinesis.core.call("ListShards", StreamName=self.stream)["Shards"]
        return [
            shard["ShardId"]
            for shard in shards
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]

    async def recreate_stream(self, shards: int) -> None:
        """Delete the stream, and create another of its name, with another creation time."""
        created = self._summary()["StreamCreationTimestamp"]
        self.kinesis.core.call("DeleteStream", StreamName=self.stream)
        await self.until(lambda: not self.kinesis.core.call("ListStreams")["StreamNames"])
        # Kinesis tells creation times to the second.
        await self.until(lambda: int(time.time()) > int(created))
        self.kinesis.core.call("CreateStream", StreamName=self.stream, ShardCount=shards)

    def split(self, shard_id: str) -> None:
        """Split a shard in the middle of its hash range."""
        shards = self.kinesis.core.call("ListShards", StreamName=self.stream)["Shards"]
        ends = next(s["HashKeyRange"] for s in shards if s["ShardId"] == shard_id)
        middle = (int(ends["StartingHashKey"]) + int(ends["EndingHashKey"])) // 2
        self.kinesis.core.call(
            "SplitShard",
            StreamName=self.stream,
            ShardToSplit=shard_id,
            NewStartingHashKey=str(middle),
        )

    def merge(self, shard_id: str, adjacent: str) -> None:
        """Merge two neighbours."""
        self.kinesis.core.call(
            "MergeShards",
            StreamName=self.stream,
            ShardToMerge=shard_id,
            AdjacentShardToMerge=adjacent,
        )

    def _summary(self) -> Any:
        return self.kinesis.core.call("DescribeStreamSummary", StreamName=self.stream)[
            "StreamDescriptionSummary"
        ]
