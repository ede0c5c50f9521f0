"""A batch is all or nothing, also when two workers meet at one key or an answer is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from streamproc import Context, Event, Policy, Processor, on
from streamproc.errors import Fenced, StateStoreError
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine, Moved
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON, Position
from streamproc.state.cache import CellCache
from streamproc.state.store import Commit, CommitResult
from streamproc.testing import Harness, MemoryStateStore


class Added(Event, id="name"):
    name: str
    amount: int = 1


class Sum(Event):
    total: int


class Adder(Processor[int]):
    """Adds to one state; waits in the handler while `gate` is closed."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    @on(Added, key=lambda event: "k")
    async def add(self, event: Added, ctx: Context[int]) -> None:
        self.entered.set()
        await self.gate.wait()
        ctx.state += event.amount
        ctx.emit(Sum(total=ctx.state))


class Worker:
    """A worker's engine over a shared store, with an adder of its own."""

    def __init__(self, store: MemoryStateStore) -> None:
        self.adder = Adder()
        self.store = store
        self.engine = Engine(
            group="test",
            stream="s",
            routes=Routes([self.adder], [store.keys]),
            stores=(store,),
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            sleep=lambda seconds: asyncio.sleep(0),
        )

    async def take(self, shard: str, epoch: int = 1) -> Transactor:
        adopted = await self.store.adopt(f"s/{shard}", epoch, TRIM_HORIZON)
        start = ChainStart(adopted.position or TRIM_HORIZON, adopted.timers)
        return Transactor(self.engine, shard, epoch, [start])


def records(first: int, *events: Added) -> list[Record]:
    return [
        Record(
            str(first + at),
            0.0,
            msgspec.json.encode({"type": "Added", "data": event}),
            event.name,
        )
        for at, event in enumerate(events)
    ]


def total(store: MemoryStateStore) -> int:
    return msgspec.json.decode(store.stored(store.keys.state_prefix("adder") + "k") or b"0")


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


async def test_a_state_changed_by_another_worker_meanwhile_is_taken_into_account(
    store: MemoryStateStore,
) -> None:
    slow, quick = Worker(store), Worker(store)
    on_one, on_two = await slow.take("one"), await quick.take("two")
    await on_one.process(records(1, Added("before")))
    slow.adder.gate.clear()
    slow.adder.entered.clear()
    running = asyncio.create_task(on_one.process(records(2, Added("a", 10))))
    await slow.adder.entered.wait()
    await on_two.process(records(1, Added("b", 100)))
    slow.adder.gate.set()
    await running
    assert total(store) == 111
    assert (on_one.statistics.conflicts, on_one.statistics.reruns) == (1, 1)
    totals = [msgspec.json.decode(entry["data"])["data"]["total"] for entry in store.outbox]
    assert totals == [1, 101, 111]


async def test_an_event_that_another_shard_committed_meanwhile_takes_effect_once(
    store: MemoryStateStore,
) -> None:
    slow, quick = Worker(store), Worker(store)
    on_one, on_two = await slow.take("one"), await quick.take("two")
    slow.adder.gate.clear()
    running = asyncio.create_task(on_one.process(records(1, Added("a"), Added("twice"))))
    await slow.adder.entered.wait()
    await on_two.process(records(1, Added("twice")))
    slow.adder.gate.set()
    await running
    assert total(store) == 2
    assert (on_one.statistics.processed, on_one.statistics.duplicates) == (1, 1)
    assert len(store.outbox) == 2


async def test_shards_of_one_worker_that_meet_at_a_key_do_not_conflict(
    store: MemoryStateStore,
) -> None:
    worker = Worker(store)
    shards = [await worker.take(f"shard-{n}") for n in range(5)]
    for first in (1, 11):
        batches = [
            shard.process(records(first, *[Added(f"{first}-{n}-{at}") for at in range(3)]))
            for n, shard in enumerate(shards)
        ]
        await asyncio.gather(*batches)
    assert total(store) == 30
    assert sum(shard.statistics.reruns for shard in shards) == 0


async def test_a_batch_from_a_place_where_the_shard_is_not_commits_nothing(
    store: MemoryStateStore,
) -> None:
    first, second = Worker(store), Worker(store)
    behind, ahead = await first.take("one"), await second.take("one")
    await ahead.process(records(1, Added("a")))
    before = store.dump()
    with pytest.raises(Moved, match="batch starts from TRIM_HORIZON, Redis has 1:0") as moved:
        await behind.process(records(1, Added("b", 50)))
    assert moved.value.found == Position("1")
    assert store.dump() == before
    behind.rewind([ChainStart(Position("1"))])
    await behind.process(records(2, Added("b", 50)))
    assert total(store) == 51


async def test_an_owner_that_lost_the_shard_commits_nothing(store: MemoryStateStore) -> None:
    old, new = Worker(store), Worker(store)
    fenced = await old.take("one", epoch=1)
    await fenced.process(records(1, Added("a")))
    await new.take("one", epoch=2)
    before = store.dump()
    with pytest.raises(Fenced):
        await fenced.process(records(2, Added("b")))
    assert store.dump() == before


class LosesAnswers(MemoryStateStore):
    """Applies a commit and then fails, as often as `losses` says; or fails without applying."""

    losses = 0
    refusals = 0

    async def commit(self, commit: Commit) -> CommitResult:
        if self.refusals:
            self.refusals -= 1
            raise StateStoreError("away")
        result = await super().commit(commit)
        if self.losses:
            self.losses -= 1
            raise StateStoreError("the answer was lost")
        return result


@pytest.mark.parametrize(("losses", "refusals"), [(1, 0), (3, 0), (0, 2), (1, 2)])
async def test_a_commit_whose_answer_was_lost_counts_once(losses: int, refusals: int) -> None:
    store = LosesAnswers()
    worker = Worker(store)
    shard = await worker.take("one")
    store.losses, store.refusals = losses, refusals
    await shard.process(records(1, Added("a")))
    await shard.process(records(2, Added("b")))
    assert total(store) == 2
    assert len(store.outbox) == 2
    assert shard.position == Position("2")
    assert (shard.statistics.records, shard.statistics.processed) == (2, 2)
    assert shard.statistics.store_errors == losses + refusals


class Odd(Event, id="name"):
    name: str
    value: str = ""


class Says(Event):
    text: str


ODD: dict[str, Any] = {"object": object(), "surrogate": "\ud800", "fine": "x"}


class Keeper(Processor[list[Any]]):
    """Keeps and emits what the event asks, some of which JSON cannot hold."""

    policy = Policy(attempts=1)

    @on(Odd, key=lambda event: event.name[0])
    def keep(self, event: Odd, ctx: Context[list[Any]]) -> None:
        kind, _, where = event.value.partition(" ")
        if where == "state":
            ctx.state.append(ODD[kind])
        else:
            ctx.emit(Says(text=ODD[kind]))


@pytest.mark.parametrize("value", ["object state", "surrogate state", "surrogate event"])
async def test_what_cannot_be_stored_is_its_own_events_failure(value: str) -> None:
    async with Harness(Keeper()) as h:
        await h.send(Odd("a", "fine state"), Odd("b", value), Odd("c", "fine state"))
        assert [letter.event_id for letter in h.dead_letters] == ["b"]
        assert (h.state("keeper", "a"), h.state("keeper", "c")) == (["x"], ["x"])


class Renewed(Processor[int]):
    """A new release of the keeper, whose state is of another type."""

    name = "keeper"
    policy = Policy(attempts=2, backoff=(0.0, 0.0))

    @on(Odd, key=lambda event: event.name[0])
    def count(self, event: Odd, ctx: Context[int]) -> None:
        ctx.state += 1


async def test_a_stored_state_that_does_not_fit_any_more_fails_its_events_only() -> None:
    async with Harness(Keeper()) as h:
        await h.send(Odd("a1", "fine state"))
        await h.restart(Renewed())
        await h.send(Odd("b1"), Odd("a2"), Odd("c1"))
        (letter,) = h.dead_letters
        assert (letter.event_id, letter.attempts) == ("a2", 2)
        assert "sp:{test:0}:s:keeper:a is not a <class 'int'>" in letter.error
        assert (h.state("keeper", "b"), h.state("keeper", "c")) == (1, 1)
        assert h.store.stored("sp:{test:0}:s:keeper:a") == b'["x"]'
