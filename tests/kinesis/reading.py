"""A reader at work on a fake stream, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streamproc.config import ReadConfig
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.reader import ShardReader
from streamproc.kinesis.records import ChildShard, HashKeyRange
from streamproc.position import TRIM_HORIZON, Position

from .fakes import SHARD, FakeKinesis, VirtualTime

CONFIG = ReadConfig(min_interval=0.2, poll_interval=0.5, idle_poll_interval=2.0, idle_after=30.0)
CHILD = ChildShard("shardId-000000000001", [SHARD], HashKeyRange("0", "9"))


@dataclass
class Rig:
    """A reader at work on a fake stream, and what a consumer does with it."""

    kinesis: FakeKinesis
    time: VirtualTime
    budget: ByteBudget
    reader: ShardReader
    task: asyncio.Task[None]
    seen: list[int] = field(default_factory=list)

    async def take(self) -> Fetched:
        """Take the next answer and let go of it at once."""
        fetched = await self.reader.next()
        self.seen += numbers(fetched)
        self.reader.release(fetched)
        return fetched

    async def take_records(self, count: int) -> list[int]:
        """Take answers until `count` records were seen in all."""
        while len(self.seen) < count:
            await self.take()
        return self.seen

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the reader work until something is so."""
        for _ in range(50_000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to be")

    async def until_it_waits(self) -> None:
        """Let the reader work until it waits for room or for its consumer."""
        calls = -1
        while calls != len(self.kinesis.calls):
            calls = len(self.kinesis.calls)
            for _ in range(20):
                await asyncio.sleep(0)


@asynccontextmanager
async def reading(
    kinesis: FakeKinesis,
    start: Position = TRIM_HORIZON,
    *,
    budget: int = 1_000_000,
    config: ReadConfig = CONFIG,
    hash_range: HashKeyRange | None = None,
) -> AsyncIterator[Rig]:
    shared = ByteBudget(budget)
    reader = ShardReader(
        kinesis,
        SHARD,
        start,
        shared,
        config,
        hash_range=hash_range,
        clock=kinesis.time.clock,
        wall_clock=lambda: 5_000.0,
        sleep=kinesis.time.sleep,
        rng=random.Random(1),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        yield Rig(kinesis, kinesis.time, shared, reader, task)
        task.cancel()
    assert shared.statistics().accounts == 0


def stream(count: int = 0, **settings: int) -> FakeKinesis:
    return FakeKinesis(VirtualTime(), count=count, **settings)


def numbers(fetched: Fetched) -> list[int]:
    return [int(record.sequence_number) for record in fetched.records]
