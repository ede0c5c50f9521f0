"""One shard far behind and many at their tip, on one worker: nobody waits for the big one.

Time is virtual, and a handler takes some of it: the loop stands still meanwhile, as it does while a
real handler computes.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest
from msgspec.structs import replace

from streamproc.config import ReadConfig
from streamproc.context import Context
from streamproc.events.envelope import encode_envelope
from streamproc.events.event import Event
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.reader import ShardReader
from streamproc.kinesis.records import Record
from streamproc.leases.lease import Lease
from streamproc.leases.thread import CoordinatorThread
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.position import TRIM_HORIZON, Position
from streamproc.processor import Processor, on
from streamproc.shard_pool import ShardPool
from streamproc.state.cache import CellCache
from streamproc.state.store import Commit, CommitResult
from streamproc.testing.memory_state import MemoryStateStore
from tests import virtual_time
from tests.kinesis.fakes import FakeKinesis, VirtualTime

HANDLER_S = 100e-6
ROUND_TRIP_S = 1e-3
TIPS = 20
BACKLOG = 60_000
RECORD_BYTES = 800


class Ping(Event, type="Ping", version=1, id="ping_id"):
    ping_id: str
    put_at: float


class Slow(Processor):
    """Takes a tenth of a millisecond for each event, and notes how old it is by then."""

    def __init__(self) -> None:
        self.ages: dict[str, list[float]] = {}

    @on(Ping)
    def handle(self, event: Ping, ctx: Context[None]) -> None:
        loop = cast(virtual_time.VirtualTimeLoop, asyncio.get_running_loop())
        loop._virtual.now += HANDLER_S
        shard = event.ping_id.partition("/")[0]
        self.ages.setdefault(shard, []).append(loop.time() - event.put_at)


class Store(MemoryStateStore):
    """A state store that is a round trip away."""

    async def commit(self, commit: Commit) -> CommitResult:
        await asyncio.sleep(ROUND_TRIP_S)
        return await super().commit(commit)


class Shard(FakeKinesis):
    """One of many shards, whose answers are as large as their records."""

    def __init__(self, name: str) -> None:
        super().__init__(VirtualTime(), per_call=10_000)
        self.name = name
        self.shards = [replace(self.shards[0], shard_id=name)]

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        result = await super().get_records(iterator, limit)
        return replace(result, wire_bytes=100 + len(result.records) * RECORD_BYTES)

    def put(self, count: int) -> None:
        now, first = virtual_time.now(), len(self.records) + 1
        for number in range(first, first + count):
            ping = Ping(f"{self.name}/{number}", now)
            data = encode_envelope(
                id=ping.ping_id, source="test", type="Ping", version=1, time=None, data=ping
            )
            self.records.append(Record(str(number), 1.5, data, f"{self.name}-{number}"))


class Leases:
    """A coordinator by which everything is held."""

    def is_valid(self, key: str) -> bool:
        return True

    def note_position(self, key: str, position: Position, incarnation: str | None) -> None:
        pass

    async def release(self, *given: Any, **named: Any) -> bool:
        return True


class Rig:
    """A worker's shards, one task and reader each, over streams of their own."""

    def __init__(self, names: list[str], prefetch_bytes: int, seed: int = 1) -> None:
        self.processor, store = Slow(), Store()
        self.shards = {name: Shard(name) for name in names}
        self.budget = ByteBudget(prefetch_bytes)
        self.rng = random.Random(seed)
        engine = Engine(
            group="g",
            stream="s",
            routes=Routes([self.processor], [store.keys]),
            stores=(store,),
            cache=CellCache(1_000_000),
            gate=KeyGate(),
        )
        self.pool = ShardPool(
            engine,
            self._open_reader,
            batch_records=1_000,
            advance_interval=1.0,
            on_state_loss="halt",
            on_fatal=self._fatal,
        )
        self.pool.attach(cast(CoordinatorThread, Leases()))

    def start(self) -> None:
        for name in self.shards:
            lease = Lease(key=name, owner="me", counter=1, checkpoint=TRIM_HORIZON)
            self.pool.lease_acquired(lease)

    async def until(self, shard: str, count: int) -> None:
        while len(self.processor.ages.get(shard, ())) < count:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)

    def _open_reader(self, lease: Lease, position: Position) -> ShardReader:
        api = self.shards[lease.key]
        return ShardReader(api, lease.key, position, self.budget, ReadConfig(), rng=self.rng)

    def _fatal(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("seed", range(4))
def test_shards_at_their_tip_do_not_wait_for_one_that_is_far_behind(seed: int) -> None:
    async def main() -> None:
        tips = [f"tip-{n}" for n in range(TIPS)]
        rig = Rig(["behind", *tips], prefetch_bytes=64 << 20, seed=seed)
        rig.shards["behind"].put(BACKLOG)
        rig.start()
        for _ in range(20):
            for tip in tips:
                rig.shards[tip].put(5)
            await asyncio.sleep(0.25)
        assert len(rig.processor.ages["behind"]) < BACKLOG, "it is behind all the time"
        assert len(rig.processor.ages["behind"]) > BACKLOG / 8, "and gets its part"
        ages = sorted(age for tip in tips for age in rig.processor.ages[tip])
        assert len(ages) >= TIPS * 5 * 18
        # The poll interval and the batches of the others. A batch of the shard behind may stand
        # before each of the three steps: the poll, its answer, the handler.
        bound = 0.25 + TIPS * 5 * HANDLER_S + 3 * 1_000 * HANDLER_S
        assert ages[int(len(ages) * 0.99)] < bound + 5 * ROUND_TRIP_S
        await rig.pool.drain(25.0)

    virtual_time.run(main())


def test_hundreds_of_shards_behind_are_read_within_the_budget_and_none_is_left_out() -> None:
    async def main() -> None:
        capacity = 4 << 20
        names = [f"shard-{n}" for n in range(300)]
        rig = Rig(names, prefetch_bytes=capacity)
        for name in names:
            rig.shards[name].put(60)
        rig.start()
        for name in names:
            await rig.until(name, 60)
        statistics = rig.budget.statistics()
        # What outgrows its reservation is kept: at most an answer beyond what was free.
        assert statistics.peak <= capacity + 60 * RECORD_BYTES
        await rig.pool.drain(25.0)
        statistics = rig.budget.statistics()
        assert (statistics.kept, statistics.reserved) == (0, 0)

    virtual_time.run(main())
