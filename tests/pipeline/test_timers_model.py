"""Any interleaving of batches, crashes, hand-overs and reshards: each timer fires once, in turn."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Processor, on
from streamproc.context import Clock
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.state.cache import CellCache
from streamproc.state.keys import partition_of_key
from streamproc.state.store import Commit, CommitResult
from streamproc.state.timers import hash_key
from streamproc.testing import MemoryStateStore

START = 1_767_225_600
KEYS = "abcdef"
FAR = 1_000


class Step(Event, id="step_id"):
    """Sets (`after` seconds), cancels (None) or, with no timer, only passes."""

    step_id: str
    key: str
    timer: str = ""
    after: int | None = None
    clock: Clock = "event"


class Due(Event):
    key: str
    timer: str
    step_id: str


class Keeper(Processor[list[str]]):
    """Notes in each key's state, in their order, what was set, cancelled and fired."""

    name = "keeper"

    @on(Step, key="key")
    def step(self, event: Step, ctx: Context[list[str]]) -> None:
        name = f"{event.key}.{event.timer}"
        if event.timer and event.after is None:
            ctx.cancel(name)
            ctx.state.append(f"x {event.timer} {event.step_id}")
        elif event.timer:
            due = Due(event.key, event.timer, event.step_id)
            ctx.schedule(ctx.event_time + (event.after or 0), due, id=name, clock=event.clock)
            ctx.state.append(f"+ {event.timer} {event.step_id}")

    @on(Due, key="key")
    def due(self, event: Due, ctx: Context[list[str]]) -> None:
        ctx.state.append(f"- {event.timer} {event.step_id}")
        ctx.emit(event)


class KilledError(Exception):
    """The worker is dead."""


class Node(MemoryStateStore):
    """A partition; kills the worker before or after a commit when told to."""

    kills: str | None = None

    async def commit(self, commit: Commit) -> CommitResult:
        if self.kills == "before":
            raise KilledError
        result = await super().commit(commit)
        if self.kills == "after":
            raise KilledError
        return result


class Shard:
    """A shard's records, and its present owner."""

    def __init__(self, name: str, low: int, high: int, parents: tuple[str, ...] = ()) -> None:
        self.name, self.low, self.high, self.parents = name, low, high, parents
        self.records: list[Record] = []
        self.owner: Transactor | None = None


class Fleet:
    """A stream, workers and stores, all in step."""

    def __init__(self, partitions: int) -> None:
        self.now = float(START)
        self.stores = tuple(
            Node("g", clock=lambda: self.now, partition=p) for p in range(partitions)
        )
        self.open = [Shard("s0", 0, (1 << 127) - 1), Shard("s1", 1 << 127, (1 << 128) - 1)]
        self.sequence = 0
        self.shards = 2
        self.epoch = 0

    def publish(self, step: Step) -> None:
        self.sequence += 1
        data = msgspec.json.encode({"type": "Step", "data": step})
        at = int(hash_key(step.key), 16)
        shard = next(shard for shard in self.open if shard.low <= at <= shard.high)
        shard.records.append(Record(str(self.sequence), self.now, data, step.key))

    async def take(self, shard: Shard) -> Transactor:
        """Adopt a shard as a new worker does."""
        self.epoch += 1
        engine = Engine(
            group="g",
            stream="s",
            routes=Routes([Keeper()], [store.keys for store in self.stores]),
            stores=self.stores,
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            wall_clock=lambda: self.now,
        )
        starts = []
        for store in self.stores:
            store.kills = None
            field = f"s/{shard.name}"
            found = await store.adopt(field, self.epoch, None)
            for parent in shard.parents:
                ends = f"{shard.low:032x}", f"{shard.high:032x}"
                await store.inherit_timers(f"s/{parent}", field, *ends)
            position = found.position or TRIM_HORIZON
            begun = await store.adopt(field, self.epoch, position)
            starts.append(ChainStart(position, begun.timers))
        shard.owner = Transactor(engine, shard.name, self.epoch, starts)
        return shard.owner

    async def work(self, shard: Shard, count: int) -> None:
        """Have the owner process the next records, and the timers that are due."""
        owner = shard.owner or await self.take(shard)
        at = owner.position
        left = [record for record in shard.records if at < record.position]
        if left[:count]:
            await owner.process(left[:count])
            await owner.advance()
        while owner.timers_due_in() == 0:
            await owner.fire()

    async def crash(self, shard: Shard, count: int, partition: int, how: str) -> None:
        """Have the owner die at a partition's commit, if it comes to that."""
        await self.take(shard)
        self.stores[partition % len(self.stores)].kills = how
        with contextlib.suppress(KilledError):
            await self.work(shard, count)
        shard.owner = None
        for store in self.stores:
            store.kills = None

    async def finish(self, shard: Shard) -> None:
        await self.work(shard, len(shard.records))
        self.open.remove(shard)

    async def split(self, shard: Shard) -> None:
        await self.finish(shard)
        middle = (shard.low + shard.high) // 2
        self._begin(shard.low, middle, (shard.name,))
        self._begin(middle + 1, shard.high, (shard.name,))

    async def merge(self, one: Shard, two: Shard) -> None:
        await self.finish(one)
        await self.finish(two)
        self._begin(one.low, two.high, (one.name, two.name))

    def _begin(self, low: int, high: int, parents: tuple[str, ...]) -> None:
        self.open.append(Shard(f"s{self.shards}", low, high, parents))
        self.open.sort(key=lambda shard: shard.low)
        self.shards += 1

    def log(self, key: str) -> list[str]:
        store = self.stores[partition_of_key(key, len(self.stores))]
        raw = store.stored(store.keys.state_prefix("keeper") + key)
        return msgspec.json.decode(raw or b"[]")  # type: ignore[no-any-return]


def must_be_right(log: list[str]) -> None:
    """Whatever is set fires once, unless it is cancelled or replaced before, and nothing else."""
    pending: dict[str, str] = {}
    for entry in log:
        kind, timer, step = entry.split(" ")
        if kind == "+":
            pending[timer] = step
        elif kind == "x":
            pending.pop(timer, None)
        else:
            assert pending.pop(timer, None) == step, f"{entry} in {log}"
    assert not pending, f"never fired in {log}"


places = st.integers(0, 7)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"), st.sampled_from(KEYS), st.sampled_from(["t", "u"]),
            st.none() | st.integers(-3, 12), st.sampled_from(["event", "wall"]),
        ),
        st.tuples(
            st.just("publish"), st.sampled_from(KEYS), st.sampled_from(["t", "u"]),
            st.integers(-3, 12), st.sampled_from(["event", "wall"]),
        ),
        st.tuples(st.just("work"), places, st.integers(0, 6)),
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("hand over"), places),
        st.tuples(
            st.just("crash"), places, st.integers(0, 6), places,
            st.sampled_from(["before", "after"]),
        ),
        st.tuples(st.just("split"), places),
        st.tuples(st.just("merge"), places),
    ),
    max_size=40,
)  # fmt: skip


@pytest.mark.parametrize("partitions", [1, 3])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
async def test_each_timer_fires_once_unless_it_is_changed_before(
    partitions: int, steps: list[Any]
) -> None:
    fleet = Fleet(partitions)
    for number, step in enumerate(steps):
        match step:
            case ("publish", key, timer, after, clock):
                fleet.publish(Step(f"{number}", key, timer, after, clock))
            case ("work", at, count):
                await fleet.work(fleet.open[at % len(fleet.open)], count)
            case ("pass", seconds):
                fleet.now += seconds
            case ("hand over", at):
                await fleet.take(fleet.open[at % len(fleet.open)])
            case ("crash", at, count, partition, how):
                await fleet.crash(fleet.open[at % len(fleet.open)], count, partition, how)
            case ("split", at):
                if len(fleet.open) < 5:
                    await fleet.split(fleet.open[at % len(fleet.open)])
            case ("merge", at):
                if len(fleet.open) > 1:
                    first = at % (len(fleet.open) - 1)
                    await fleet.merge(fleet.open[first], fleet.open[first + 1])
    fleet.now += FAR
    # Something in every shard and partition, so that all event clocks go on.
    for key in [*KEYS, *[f"{letter}{number}" for letter in KEYS for number in range(12)]]:
        fleet.publish(Step(f"last {key}", key))
    for shard in list(fleet.open):
        await fleet.work(shard, len(shard.records))
    for key in KEYS:
        must_be_right(fleet.log(key))
    emitted = [entry["id"] for store in fleet.stores for entry in store.outbox]
    fired = sum(entry.startswith("-") for key in KEYS for entry in fleet.log(key))
    assert len(set(emitted)) == len(emitted) == fired
