"""Batches that go straight to their commit: the same outcome with one round trip less."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, on
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.decode import DecodedBatch, decode_batch
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.state.cache import CellCache
from streamproc.testing import MemoryStateStore


class Added(Event, id="name"):
    name: str
    key: str = "k"


class Asked(Event, id="name"):
    name: str


class Refused(Event, id="name"):
    name: str


class Counted(Event, id="name"):
    name: str
    key: str = "k"


class Sums(Processor[list[str]]):
    """Lists the names of each key; never takes a `Refused`."""

    name = "sums"
    policy = Policy(attempts=1)

    @on(Added, key="key")
    def add(self, event: Added, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.name)

    @on(Counted, key="key", counters=lambda event: ["all"])
    def count(self, event: Counted, ctx: Context[list[str]]) -> None:
        counter = ctx.counters["all"]
        ctx.state.append(f"{event.name} after {counter.value('n')}")
        counter.add("n")

    @on(Asked, key=lambda event: "asked")
    async def ask(self, event: Asked, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.name)

    @on(Refused, key=lambda event: "k")
    def refuse(self, event: Refused, ctx: Context[list[str]]) -> None:
        raise RuntimeError("never")


class CountingStore(MemoryStateStore):
    """Counts the round trips, and what the last check was about: ids, states, counters."""

    checks = 0
    commits = 0
    looked_up = (0, 0, 0)

    async def check(self, *arguments: Any) -> Any:
        self.checks += 1
        self.looked_up = tuple(map(len, arguments))  # type: ignore[assignment]  # there are three
        return await super().check(*arguments)

    async def commit(self, commit: Any) -> Any:
        self.commits += 1
        return await super().commit(commit)

    def names(self, key: str = "k") -> list[str]:
        raw = self.stored(self.keys.state_prefix("sums") + key)
        return [] if raw is None else msgspec.json.decode(raw, type=list[str])


class Shard:
    """A shard in the hands of a worker of its own."""

    def __init__(self, store: CountingStore, shard_id: str = "one") -> None:
        self.now = 100.0
        self.store = store
        self.shard_id = shard_id
        self._sequence = 0
        self._transactor: Transactor | None = None
        self._engine = Engine(
            group="test",
            stream="s",
            routes=Routes([Sums()], [store.keys]),
            stores=(store,),
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            clock=lambda: self.now,
            sleep=lambda seconds: asyncio.sleep(0),
        )

    @property
    def transactor(self) -> Transactor:
        assert self._transactor is not None
        return self._transactor

    async def process(self, *events: Event) -> int:
        """Process a batch; return how many checks it took."""
        if self._transactor is None:
            adopted = await self.store.adopt(f"s/{self.shard_id}", 1, TRIM_HORIZON)
            start = ChainStart(adopted.position or TRIM_HORIZON, adopted.timers)
            self._transactor = Transactor(self._engine, self.shard_id, 1, [start])
        before = self.store.checks
        await self._transactor.process([self._record(event) for event in events])
        return self.store.checks - before

    def decoded(self, event: Event) -> DecodedBatch:
        """Return what becomes of an event."""
        return decode_batch(
            [self._record(event)],
            self._engine.routes,
            self._engine.cache,
            stream="s",
            shard=self.shard_id,
            dead_letter_unknown=False,
        )

    def _record(self, event: Event) -> Record:
        self._sequence += 1
        data = msgspec.json.encode({"type": type(event).__event_type__, "data": event})
        return Record(str(self._sequence), 0.0, data, "p")


async def test_a_batch_whose_states_are_held_is_committed_in_one_round_trip() -> None:
    store = CountingStore()
    shard = Shard(store)
    assert await shard.process(Added("a")) == 1
    assert await shard.process(Added("b")) == 0
    assert await shard.process(Added("c", "another key")) == 1
    assert await shard.process(Added("d"), Added("e", "another key")) == 0
    assert store.names() == ["a", "b", "d"]
    assert store.names("another key") == ["c", "e"]
    assert store.commits == 4


async def test_redis_is_asked_at_least_every_five_seconds() -> None:
    shard = Shard(CountingStore())
    await shard.process(Added("a"))
    shard.now += 4.9
    assert await shard.process(Added("b")) == 0
    shard.now += 0.2
    assert await shard.process(Added("c")) == 1


async def test_a_duplicate_takes_effect_once_all_the_same() -> None:
    store = CountingStore()
    shard = Shard(store)
    await shard.process(Added("a"))
    assert await shard.process(Added("b"), Added("a"), Added("c")) == 1
    assert store.names() == ["a", "b", "c"]
    statistics = shard.transactor.statistics
    assert (statistics.processed, statistics.duplicates) == (3, 1)


async def test_a_failing_duplicate_is_no_dead_letter() -> None:
    store = CountingStore()
    shard = Shard(store)
    await shard.process(Added("a"), Refused("r"))
    assert len(store.dead_letters) == 1
    # A release that could take it has done so meanwhile.
    (refused,) = shard.decoded(Refused("r")).items
    store._seen[store.bucket()].digests.add(refused.digest)
    assert await shard.process(Refused("r")) == 1
    assert len(store.dead_letters) == 1
    assert shard.transactor.statistics.duplicates == 1


async def test_a_failure_is_a_dead_letter_after_a_check() -> None:
    store = CountingStore()
    shard = Shard(store)
    await shard.process(Added("a"))
    assert await shard.process(Added("b"), Refused("r")) == 1
    assert store.names() == ["a", "b"]
    assert len(store.dead_letters) == 1


async def test_a_state_that_another_worker_changed_is_loaded_and_the_batch_run_again() -> None:
    store = CountingStore()
    one, two = Shard(store), Shard(store, "two")
    await one.process(Added("a"))
    await two.process(Added("b"))
    assert await one.process(Added("c")) == 1
    assert store.names() == ["a", "b", "c"]
    assert one.transactor.statistics.conflicts == 1


async def test_counters_are_looked_up_without_ids_and_states_that_are_held() -> None:
    store = CountingStore()
    shard, other = Shard(store), Shard(store, "two")
    looked_up = []
    for owner, event in [
        (shard, Counted("a")),
        (shard, Counted("b")),
        (other, Counted("c", "elsewhere")),
        (shard, Counted("d")),
        (shard, Counted("e", "new")),
    ]:
        await owner.process(event)
        looked_up.append(store.looked_up)
    assert looked_up == [(1, 1, 1), (0, 0, 1), (1, 1, 1), (0, 0, 1), (0, 1, 1)]
    # What another worker counted is seen all the same.
    assert store.names() == ["a after 0", "b after 1", "d after 3"]
    assert store.names("new") == ["e after 4"]


async def test_a_duplicate_counts_once_although_it_was_not_looked_up() -> None:
    store = CountingStore()
    shard = Shard(store)
    await shard.process(Counted("a"))
    await shard.process(Counted("b"), Counted("a"))
    assert store.names() == ["a after 0", "b after 1"]
    assert store.counts(store.keys.counter_prefix("sums") + "all").sums == {"n": 2}  # type: ignore[union-attr]
    assert shard.transactor.statistics.duplicates == 1


async def test_async_handlers_are_never_run_for_what_was_not_checked() -> None:
    shard = Shard(CountingStore())
    for number in range(3):
        assert await shard.process(Asked(f"a{number}")) == 1


async def test_where_much_is_refused_little_is_tried_without_a_check() -> None:
    shard = Shard(CountingStore())
    await shard.process(Added("first"))
    checks = [await shard.process(Added(f"n{n}"), Added("first")) for n in range(200)]
    assert sum(checks) == 200, "one check a batch, be it before its first run or its second"
    assert shard.transactor.statistics.reruns <= 10
    quiet = [await shard.process(Added(f"q{n}")) for n in range(200)]
    assert sum(quiet) < 70


EVENTS = st.lists(
    st.lists(
        st.builds(Added, st.sampled_from("abcdefgh"), st.sampled_from("xy"))
        | st.builds(Refused, st.sampled_from("rs")),
        min_size=1,
        max_size=4,
    ),
    max_size=10,
)


@given(EVENTS, EVENTS)
def test_two_shards_end_as_if_every_batch_was_checked(
    one: Sequence[Sequence[Event]], two: Sequence[Sequence[Event]]
) -> None:
    async def run(step: float) -> tuple[Any, ...]:
        store = CountingStore()
        first, second = Shard(store), Shard(store, "two")
        for at in range(max(len(one), len(two))):
            for shard, batches in ((first, one), (second, two)):
                if at < len(batches):
                    shard.now += step
                    await shard.process(*batches[at])
        letters = [(each["event_id"], each["reason"]) for each in store.dead_letters]
        return store.names("x"), store.names("y"), letters

    assert asyncio.run(run(0.0)) == asyncio.run(run(10.0))
