"""A Kinesis stream of one shard in memory, and time that passes only when somebody sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streamproc.kinesis.aggregation import KPL_MAGIC
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult, StreamSummary
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import ExpiredIteratorError, NotFoundError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.records import ChildShard, Record
from streamproc.position import Position
from tests import virtual_time

SHARD = "shardId-000000000000"


class VirtualTime:
    """A clock whose sleeps take no time: each moves the clock and lets the others run."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.sleeps: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert len(self.sleeps) < 20_000, "nobody is waiting for anything any more"
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class LoopTime(VirtualTime):
    """The running loop's time, for a fake stream that notes when it was called."""

    @property
    def now(self) -> float:
        return virtual_time.now()

    @now.setter
    def now(self, value: float) -> None:
        """Leave it: the loop says what time it is."""


def record(number: int, size: int = 10) -> Record:
    return Record(str(number), 1.5, b"x" * size, f"key-{number}")


class FakeKinesis(KinesisApi):
    """Serves `records`, numbered from 1, `per_call` at a time; iterators are ``at-<index>``.

    What is in `failures` is raised, or called, one by one before GetRecords answers.
    """

    def __init__(self, time: VirtualTime, *, count: int = 0, per_call: int = 3) -> None:
        self.time = time
        self.records = [record(number) for number in range(1, count + 1)]
        self.per_call = per_call
        self.failures: list[Exception | Callable[[], Awaitable[GetRecordsResult]]] = []
        self.children: list[ChildShard] | None = None
        self.shards = [
            ShardInfo(
                shard_id=SHARD,
                parents=(),
                starting_hash_key="0",
                ending_hash_key="9",
                starting_sequence_number="1",
                ending_sequence_number=None,
            )
        ]
        self.calls: list[float] = []
        self.positions: list[Position] = []
        self.exists = True
        self.answer_bytes = 100

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        self.calls.append(self.time.now)
        await asyncio.sleep(0)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return await failure()
        index = int(iterator.removeprefix("at-"))
        end = min(index + min(limit, self.per_call), len(self.records))
        ended = self.children is not None and end == len(self.records)
        return GetRecordsResult(
            records=self.records[index:end],
            next_shard_iterator=None if ended else f"at-{end}",
            millis_behind_latest=0 if end == len(self.records) else 1_000,
            child_shards=(self.children or []) if ended else [],
            has_aggregates=any(r.data.startswith(KPL_MAGIC) for r in self.records[index:end]),
            wire_bytes=self.answer_bytes,
        )

    async def shard_iterator(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> str:
        self.positions.append(position)
        if not self.exists or all(shard.shard_id != shard_id for shard in self.shards):
            raise NotFoundError(f"no {shard_id}")
        match position.sequence:
            case "TRIM_HORIZON" | "AT_TIMESTAMP":
                return "at-0"
            case "LATEST":
                return f"at-{len(self.records)}"
            case number:
                return f"at-{int(number) - inclusive}"

    async def list_shards(self, at: Position | None = None) -> list[ShardInfo]:
        if not self.exists:
            raise NotFoundError("no stream")
        return self.shards

    async def describe_stream(self) -> StreamSummary:
        raise NotImplementedError

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        raise NotImplementedError


def expired() -> ExpiredIteratorError:
    return ExpiredIteratorError("planned")
