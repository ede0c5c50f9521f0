"""Parked keys: their order, what flows on around them, and how they come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, Reject, on
from streamproc.deadletter import DeadLetter
from streamproc.errors import Fenced, StateStoreError
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.state.cache import CellCache
from streamproc.state.store import Commit, CommitResult
from streamproc.testing import Harness, MemoryStateStore


class Moved(Event, id="name"):
    name: str
    account: str
    how: str = ""


class Booked(Event):
    name: str


class Ledger(Processor[list[str]]):
    """Books moves in their order; refuses those in `broken` for as long as they are there."""

    policy = Policy(attempts=2, backoff=(0.0, 0.0), then="park")

    def __init__(self) -> None:
        self.broken: set[str] = set()

    @on(Moved, key="account")
    def book(self, event: Moved, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.name)
        ctx.emit(Booked(name=event.name))
        if event.how == "reject":
            raise Reject("unwanted")
        if event.name in self.broken:
            raise RuntimeError(f"{event.name} is broken")


class AsyncLedger(Ledger):
    name = "ledger"

    @on(Moved, key="account")
    async def book(self, event: Moved, ctx: Context[list[str]]) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().book(event, ctx)


class BatchLedger(Ledger):
    name = "ledger"

    @on(Moved, key="account", batch=True)
    def book(  # type: ignore[override]
        self, events: Sequence[Moved], contexts: Sequence[Context[list[str]]]
    ) -> None:
        for event, ctx in zip(events, contexts, strict=True):
            super().book(event, ctx)


kinds = pytest.mark.parametrize("kind", [Ledger, AsyncLedger, BatchLedger])


def moves(h: Harness, *names: str) -> list[Record]:
    """Return records of moves whose account, and partition key, is their name's first letter."""
    return [h.record(Moved(name, name[0]), key=name[0]) for name in names]


def waiting(h: Harness) -> dict[str, list[str]]:
    return {key: [each.event_id for each in letters] for key, letters in h.parked.items()}


@kinds
async def test_a_failing_event_parks_its_key_and_the_others_flow_on(kind: type[Ledger]) -> None:
    ledger = kind()
    ledger.broken = {"a2"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1", "b1", "a2", "b2", "a3", "c1"))
        await h.process(*moves(h, "b3", "a4"))
        assert h.state("ledger", "a") == ["a1"]
        assert h.state("ledger", "b") == ["b1", "b2", "b3"]
        assert h.state("ledger", "c") == ["c1"]
        assert waiting(h) == {"a": ["a2", "a3", "a4"]}
        assert h.dead_letters == []
        assert (h.statistics.parked, h.statistics.processed, h.statistics.records) == (3, 5, 8)
        assert [each.name for each in h.emitted_as(Booked)] == ["a1", "b1", "b2", "c1", "b3"]


async def test_a_parked_record_tells_what_a_dead_letter_tells() -> None:
    ledger = Ledger()
    ledger.broken = {"a1"}
    async with Harness(ledger) as h:
        first, second = moves(h, "a1", "a2")
        await h.process(first, second)
        failed, behind = h.parked["a"]
        assert (failed.reason, failed.error) == ("handler-failed", "RuntimeError: a1 is broken")
        assert (failed.attempts, failed.handler) == (2, "ledger.book")
        assert "in book" in failed.traceback
        assert (behind.reason, behind.error, behind.attempts) == ("behind-parked", "", 0)
        assert [failed.record(), behind.record()] == [first, second]


@kinds
async def test_a_redriven_key_is_processed_in_order_and_flows_again(kind: type[Ledger]) -> None:
    ledger = kind()
    ledger.broken = {"a2"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1", "a2", "a3"))
        ledger.broken = set()
        await h.redrive("a")
        assert h.parked == {}
        await h.process(*moves(h, "a4"))
        assert h.state("ledger", "a") == ["a1", "a2", "a3", "a4"]
        assert (h.statistics.redriven, h.statistics.processed) == (2, 2)


async def test_one_that_fails_again_stays_at_the_head_and_what_came_before_it_is_done() -> None:
    ledger = Ledger()
    ledger.broken = {"a1", "a3"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1", "a2", "a3", "a4"))
        h.store.want("a")
        ledger.broken = {"a3"}
        await h.redrive("a")
        assert h.state("ledger", "a") == ["a1", "a2"]
        assert waiting(h) == {"a": ["a3", "a4"]}
        head = h.parked["a"][0]
        assert (head.reason, head.error, head.attempts) == (
            "handler-failed", "RuntimeError: a3 is broken", 2,
        )  # fmt: skip
        # Nobody asks for it any more, until somebody does again.
        assert (await h.store.wanted(10)).keys == []
        await h.redrive("a")
        assert h.parked["a"][0].attempts == 4
        await h.process(*moves(h, "a5"))
        ledger.broken = set()
        await h.redrive("a")
        assert h.state("ledger", "a") == [f"a{n}" for n in range(1, 6)]


async def test_a_rejected_event_is_a_dead_letter_and_parks_nothing() -> None:
    async with Harness(Ledger()) as h:
        await h.process(h.record(Moved("a1", "a", how="reject"), key="a"), *moves(h, "a2"))
        assert [each.reason for each in h.dead_letters] == ["unwanted"]
        assert h.parked == {}
        assert h.state("ledger", "a") == ["a2"]


async def test_a_parked_event_is_no_duplicate_and_its_duplicate_is_one_later() -> None:
    ledger = Ledger()
    ledger.broken = {"a1"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1"))
        await h.process(*moves(h, "a1", "a2"))
        assert waiting(h) == {"a": ["a1", "a1", "a2"]}
        ledger.broken = set()
        await h.redrive("a")
        assert h.state("ledger", "a") == ["a1", "a2"]
        await h.process(*moves(h, "a1"))
        assert h.state("ledger", "a") == ["a1", "a2"]
        assert h.statistics.duplicates == 1


async def test_an_event_committed_before_its_key_was_parked_stays_a_duplicate() -> None:
    ledger = Ledger()
    ledger.broken = {"a2"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1"))
        await h.process(*moves(h, "a2"))
        await h.process(*moves(h, "a1"))
        assert waiting(h) == {"a": ["a2"]}
        assert h.statistics.duplicates == 1


async def test_a_new_owner_knows_what_is_parked() -> None:
    ledger = Ledger()
    ledger.broken = {"a1"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1"))
        await h.restart()
        ledger.broken = set()
        await h.process(*moves(h, "a2", "b1"))
        assert waiting(h) == {"a": ["a1", "a2"]}


async def test_more_than_one_step_is_needed_for_a_long_list() -> None:
    ledger = Ledger()
    ledger.broken = {"a0"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, *[f"a{n}" for n in range(250)]))
        ledger.broken = set()
        batches = h.statistics.batches
        await h.redrive("a")
        assert h.state("ledger", "a") == [f"a{n}" for n in range(250)]
        assert h.statistics.redriven == 250
        assert h.statistics.batches == batches  # they are no batches of the shard


async def test_a_parked_record_that_cannot_be_decoded_any_more_becomes_a_dead_letter_once() -> None:
    class Stricter(Event, type="Moved", id="name"):
        name: str
        account: int

    class New(Processor[list[str]]):
        name = "ledger"

        @on(Stricter, key=lambda event: str(event.account))
        def book(self, event: Stricter, ctx: Context[list[str]]) -> None: ...

    ledger = Ledger()
    ledger.broken = {"a1", "a3"}
    async with Harness(ledger) as h:
        await h.process(*moves(h, "a1", "a2", "a3", "a4"))
        await h.redrive("a")
        await h.restart(New())
        await h.redrive("a")
        assert [(d.event_id, d.reason) for d in h.dead_letters] == [
            (f"a{n}", "bad-shape") for n in range(1, 5)
        ]
        assert h.parked == {}


# Two workers, lost answers, and people at the list.


class Rough(MemoryStateStore):
    """Loses answers, before or after they were applied, as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)
        self.roughness = 0.0

    async def commit(self, commit: Commit) -> CommitResult:
        if self.rng.random() < self.roughness:
            raise StateStoreError("away")
        result = await super().commit(commit)
        if self.rng.random() < self.roughness:
            raise StateStoreError("the answer was lost")
        return result


class Worker:
    def __init__(self, store: MemoryStateStore, ledger: Ledger) -> None:
        self.store = store
        self.engine = Engine(
            group="test",
            stream="s",
            routes=Routes([ledger], [store.keys]),
            stores=(store,),
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            sleep=lambda seconds: asyncio.sleep(0),
        )

    async def take(self, shard: str, epoch: int) -> Transactor:
        adopted = await self.store.adopt(f"s/{shard}", epoch, TRIM_HORIZON)
        return Transactor(self.engine, shard, epoch, [ChainStart(adopted.position or TRIM_HORIZON)])


def record(number: int, name: str) -> Record:
    data = {"type": "Moved", "data": {"name": name, "account": name[0]}}
    return Record(str(number), 0.0, msgspec.json.encode(data), name[0])


def booked(store: MemoryStateStore, account: str) -> list[str]:
    raw = store.stored(store.keys.state_prefix("ledger") + account)
    return [] if raw is None else msgspec.json.decode(raw)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_redrive_whose_answer_was_lost_counts_once(when: str) -> None:
    class Loses(Rough):
        losses = 0

        async def commit(self, commit: Commit) -> CommitResult:
            if self.losses and when == "before":
                self.losses -= 1
                raise StateStoreError("away")
            result = await MemoryStateStore.commit(self, commit)
            if self.losses:
                self.losses -= 1
                raise StateStoreError("lost")
            return result

    ledger, store = Ledger(), Loses()
    ledger.broken = {"a1"}
    shard = await Worker(store, ledger).take("one", 1)
    names = [f"a{n}" for n in range(1, 251)]
    await shard.process([record(n, name) for n, name in enumerate(names, 1)])
    ledger.broken, store.losses = set(), 2
    while await shard.redrive(0, "a"):
        pass
    assert booked(store, "a") == names
    assert shard.statistics.redriven == 250
    assert store.parked() == {}


async def test_keys_that_another_shard_parks_meanwhile_cost_no_rerun() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    class Slow(Ledger):
        name = "ledger"
        runs = 0

        @on(Moved, key="account")
        async def book(self, event: Moved, ctx: Context[list[str]]) -> None:  # type: ignore[override]
            self.runs += 1
            entered.set()
            await go.wait()
            super().book(event, ctx)

    store, slow, quick = MemoryStateStore(), Slow(), Ledger()
    quick.broken = {"b1"}
    one = await Worker(store, slow).take("one", 1)
    two = await Worker(store, quick).take("two", 1)
    running = asyncio.create_task(one.process([record(1, "a1")]))
    await entered.wait()
    await two.process([record(1, "b1")])
    go.set()
    await running
    assert (slow.runs, one.statistics.reruns) == (1, 0)
    assert booked(store, "a") == ["a1"]


async def test_keys_that_another_shard_parks_during_a_redrive_cost_no_rerun() -> None:
    ledger, store = Ledger(), MemoryStateStore()
    ledger.broken = {"a1", "b1"}
    worker = Worker(store, ledger)
    one, two = await worker.take("one", 1), await worker.take("two", 1)
    await one.process([record(1, "a1"), record(2, "a2")])
    real = store.commit

    async def commit(commit: Commit) -> CommitResult:
        store.commit = real  # type: ignore[method-assign]
        await two.process([record(1, "b1")])
        return await real(commit)

    store.commit = commit  # type: ignore[method-assign]
    ledger.broken = {"b1"}
    reruns = one.statistics.reruns
    assert not await one.redrive(0, "a")
    assert booked(store, "a") == ["a1", "a2"]
    assert set(store.parked()) == {"b"}
    assert (one.statistics.redriven, one.statistics.reruns) == (2, reruns)


async def test_a_batch_that_began_before_somebody_unparked_its_key_is_judged_again() -> None:
    """Dropping a parked key by hand while its owner puts more there."""
    ledger, store = Ledger(), MemoryStateStore()
    ledger.broken = {"a1"}
    shard = await Worker(store, ledger).take("one", 1)
    await shard.process([record(1, "a1")])
    real = store.commit

    async def commit(commit: Commit) -> CommitResult:
        store.commit = real  # type: ignore[method-assign]
        await store.drop("a")
        return await real(commit)

    store.commit = commit  # type: ignore[method-assign]
    await shard.process([record(2, "a2")])
    assert store.parked() == {}
    assert booked(store, "a") == ["a2"]


async def test_a_zombie_parks_and_redrives_nothing() -> None:
    ledger, store = Ledger(), MemoryStateStore()
    ledger.broken = {"a1"}
    old = await Worker(store, ledger).take("one", 1)
    await old.process([record(1, "a1")])
    await Worker(store, ledger).take("one", 2)
    before = store.dump()
    ledger.broken = {"b2"}
    for attempt in (old.process([record(2, "b2")]), old.redrive(0, "a")):
        with pytest.raises(Fenced):
            await attempt
    assert store.dump() == before


steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.lists(st.sampled_from("abc"), min_size=1, max_size=6)),
        st.tuples(st.just("redrive"), st.sampled_from("abc")),
        st.tuples(st.just("break"), st.integers(0, 40)),
        st.tuples(st.just("mend"), st.just(0)),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("reshard"), st.just(0)),
    ),
    max_size=40,
)


@given(
    steps=steps,
    seed=st.integers(0, 2**32),
    kind=st.sampled_from([Ledger, AsyncLedger, BatchLedger]),
)
@settings(max_examples=200, deadline=None)
async def test_each_key_keeps_its_order_through_failures_redrives_crashes_and_reshards(
    steps: list[tuple[str, Any]], seed: int, kind: type[Ledger]
) -> None:
    ledger, store = kind(), Rough()
    store.rng, store.roughness = random.Random(seed), 0.15
    shard_id, epoch = "shard-0", 1
    shard = await Worker(store, ledger).take(shard_id, epoch)
    published: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    number = 0
    for step, what in steps:
        if step == "batch":
            batch = []
            for account in what:
                number += 1
                published[account].append(f"{account}{number}")
                batch.append(record(number, f"{account}{number}"))
            await shard.process(batch)
        elif step == "redrive":
            while await shard.redrive(0, what):
                pass
        elif step == "break":
            ledger.broken |= {f"{account}{what}" for account in "abc"}
        elif step == "mend":
            ledger.broken.clear()
        elif step == "crash":
            # Between any two awaits of a redrive, or just so; another worker takes over.
            if what:
                redriving = asyncio.create_task(shard.redrive(0, "a"))
                for _ in range(store.rng.randrange(12)):
                    await asyncio.sleep(0)
                redriving.cancel()
                await asyncio.wait([redriving])
            epoch += 1
            shard = await Worker(store, ledger).take(shard_id, epoch)
        else:
            shard_id = f"{shard_id}-child"
            shard = await Worker(store, ledger).take(shard_id, epoch)
        check_order(store, published)
    ledger.broken.clear()
    for account in published:
        while await shard.redrive(0, account):
            pass
    assert store.parked() == {}
    assert {account: booked(store, account) for account in published} == published
    emitted = [msgspec.json.decode(entry["data"])["data"]["name"] for entry in store.outbox]
    for account, names in published.items():
        assert [name for name in emitted if name[0] == account] == names


def check_order(store: MemoryStateStore, published: dict[str, list[str]]) -> None:
    """What is booked, and then what waits, is what was published: nothing lost, nothing moved."""
    for account, names in published.items():
        queue = [DeadLetter.from_json(each).event_id for each in store.parked().get(account, [])]
        assert booked(store, account) + queue == names
