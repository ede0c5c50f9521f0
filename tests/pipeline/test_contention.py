"""Shards that keep meeting at one state: nothing is lost, and nobody tries for ever."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import msgspec
import pytest

from streamproc import Context, Event, Processor, on
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.state.cache import CellCache
from streamproc.state.store import Commit, CommitResult
from streamproc.testing import MemoryStateStore


class Hit(Event, id="hit_id"):
    hit_id: str
    key: str = "hot"


class Hits(Processor[list[str]]):
    """Notes each hit; lets others run in between."""

    @on(Hit, key="key")
    async def hit(self, event: Hit, ctx: Context[list[str]]) -> None:
        await asyncio.sleep(0)
        ctx.state.append(event.hit_id)


class Busy(MemoryStateStore):
    """Another worker writes the hot state before each commit of more than `most` events.

    `committed` are the sizes of the commits that passed.
    """

    most = 1_000
    single_conflicts = 0

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[int] = []

    async def commit(self, commit: Commit) -> CommitResult:
        size = len(commit.digests)
        if size > self.most or (size == 1 and self.single_conflicts > 0):
            self.single_conflicts -= size == 1
            stored = self._states[commit.cells[0][0].key]
            stored.version += 1
        result = await super().commit(commit)
        if result.outcome == "OK":
            self.committed.append(size)
        return result


async def take(store: MemoryStateStore, shard: str, seed: int = 0) -> Transactor:
    engine = Engine(
        group="test",
        stream="s",
        routes=Routes([Hits()], [store.keys]),
        stores=(store,),
        cache=CellCache(1 << 20),
        gate=KeyGate(),
        sleep=lambda seconds: asyncio.sleep(0),
        rng=random.Random(seed),
    )
    adopted = await store.adopt(f"s/{shard}", 1, TRIM_HORIZON)
    return Transactor(engine, shard, 1, [ChainStart(adopted.position or TRIM_HORIZON)])


def records(shard: str, first: int, count: int) -> list[Record]:
    return [
        Record(
            str(number),
            0.0,
            msgspec.json.encode({"type": "Hit", "data": Hit(f"{shard}-{number}")}),
            "pk",
        )
        for number in range(first, first + count)
    ]


def noted(store: MemoryStateStore) -> list[str]:
    return msgspec.json.decode(store.stored(store.keys.state_prefix("hits") + "hot") or b"[]")  # type: ignore[no-any-return]


async def test_a_batch_that_keeps_being_refused_is_halved_until_it_passes() -> None:
    store = Busy()
    shard = await take(store, "one")
    await shard.process(records("one", 1, 1))
    store.most = 10
    await shard.process(records("one", 2, 64))
    assert noted(store) == [f"one-{n}" for n in range(1, 66)]
    assert max(store.committed) <= 10
    assert shard.statistics.halvings >= 3
    assert shard.statistics.conflicts == 3 * shard.statistics.halvings
    assert shard.statistics.records == shard.statistics.processed == 65


async def test_the_size_recovers_by_doubling_once_the_others_are_gone() -> None:
    store = Busy()
    shard = await take(store, "one")
    await shard.process(records("one", 1, 1))
    store.most = 4
    await shard.process(records("one", 2, 16))
    store.most = 1_000
    store.committed.clear()
    await shard.process(records("one", 18, 64))
    await shard.process(records("one", 82, 64))
    assert store.committed[-1] == 64
    doubling = store.committed[:-2]
    assert all(after == 2 * before for before, after in pairwise(doubling))
    assert sum(store.committed) == 128


async def test_a_single_event_goes_on_trying() -> None:
    store = Busy()
    shard = await take(store, "one")
    await shard.process(records("one", 1, 1))
    store.single_conflicts = 25
    await shard.process(records("one", 2, 1))
    assert noted(store) == ["one-1", "one-2"]
    assert shard.statistics.conflicts == 25
    assert shard.statistics.halvings == 0


@pytest.mark.parametrize("workers", [2, 5])
async def test_workers_that_meet_at_one_state_all_get_done_and_lose_no_update(
    workers: int,
) -> None:
    store = MemoryStateStore()
    shards = [await take(store, f"w{n}", seed=n) for n in range(workers)]

    async def work(number: int, shard: Transactor) -> None:
        for first in range(1, 200, 40):
            await shard.process(records(f"w{number}", first, 40))

    async with asyncio.timeout(60):
        await asyncio.gather(*[work(n, shard) for n, shard in enumerate(shards)])
    found = noted(store)
    for number in range(workers):
        own = [hit for hit in found if hit.startswith(f"w{number}-")]
        assert own == [f"w{number}-{n}" for n in range(1, 201)], "each shard's in its order"
    assert len(found) == 200 * workers
    assert sum(shard.statistics.conflicts for shard in shards) > 0
