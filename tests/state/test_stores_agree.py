"""Any sequence of calls gets the same answers from both stores and leaves the same behind."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from streamproc.errors import Fenced
from streamproc.redis_client import connect_redis
from streamproc.state.counters import CounterCell
from streamproc.state.dedupe import Layout

from .stores import (
    SHARD,
    START,
    Kit,
    MemoryKit,
    RedisKit,
    cell,
    commit,
    counter,
    counting,
    digest,
    entry,
    position,
    removal,
    setting,
    this_bucket,
    timer,
)

shards = st.sampled_from([SHARD, SHARD, "orders/other"])
epochs = st.sampled_from([1, 1, 1, 1, 2])
places = st.integers(0, 4).map(position)
names = ("a", "b", "c")
numbers = st.sampled_from([1, -1, 2**40, 0.1, 0.2, -1e-3, 1e22, 5.0])
deeds = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("xy"), numbers),
    st.tuples(st.just("bucket"), st.sampled_from("xy"), numbers, st.integers(-1, 3)),
    st.tuples(st.just("forget"), st.sampled_from("xy"), st.integers(-1, 4)),
    st.tuples(st.just("min"), st.just("least"), numbers),
    st.tuples(st.just("max"), st.just("most"), numbers),
    st.tuples(st.just("distinct"), st.just("who"), st.sampled_from("abcdef")),
)


class BothStores(RuleBasedStateMachine):
    """Each call goes to both; two holders of each state take turns, as two workers would."""

    def __init__(self, url: str, layout: Layout) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # A group of its own, instead of a flush: the server is the same for all runs.
        redis_kit = RedisKit(connect_redis(url, timeout=5.0), f"g-{uuid.uuid4().hex}", layout)
        self.memory = MemoryKit(layout)
        self.kits: list[Kit] = [self.memory, redis_kit]
        self.cells = [
            {(holder, name): cell(kit, name) for holder in (0, 1) for name in names}
            for kit in self.kits
        ]
        self.counters = [
            {(holder, name): counter(kit, name) for holder in (0, 1) for name in names}
            for kit in self.kits
        ]

    @initialize()
    def begin(self) -> None:
        self.adopt(SHARD, 1, START)

    @rule(shard=shards, epoch=epochs, start=st.none() | places)
    def adopt(self, shard: str, epoch: int, start: Any) -> None:
        async def call(kit: Kit) -> object:
            return (await kit.store.adopt(shard, epoch, start)).position

        self.same(call(kit) for kit in self.kits)

    @rule(numbers=st.lists(st.integers(0, 40), max_size=4), holder=st.integers(0, 1))
    def check(self, numbers: list[int], holder: int) -> None:
        async def call(kit: Kit, cells: Any, counters: Any) -> object:
            held = [cells[holder, name] for name in names]
            counts = [counters[holder, name] for name in names]
            checked = await kit.store.check([digest(number) for number in numbers], held, counts)
            seen = checked.committed
            return seen, [each.read() for each in held], [_seen(each) for each in counts]

        self.same(map(call, self.kits, self.cells, self.counters))

    @rule(
        shard=shards,
        epoch=epochs,
        start=st.sampled_from([None, None, None, position(0)]),
        end=places,
        numbers=st.lists(st.integers(0, 40), max_size=4),
        age=st.integers(0, 3),
        holder=st.integers(0, 1),
        writes=st.dictionaries(st.sampled_from(names), st.none() | st.integers(0, 3)),
        counts=st.dictionaries(st.sampled_from(names), st.lists(deeds, max_size=4)),
        entries=st.integers(0, 2),
    )
    def commit(
        self, shard: str, epoch: int, start: Any | None, end: Any, numbers: list[int], age: int,
        holder: int, writes: dict[str, int | None], counts: dict[str, list[Any]], entries: int,
    ) -> None:  # fmt: skip
        if start is None:  # most of the time, a commit starts from where the shard is
            positions = self.memory.store.dump()["positions"]
            start = positions.get(shard, (0, None))[1] or START

        async def call(kit: Kit, cells: Any, counters: Any) -> object:
            for name, done in counts.items():
                for deed in done:
                    _do(counters[holder, name], *deed)
            changed = [counters[holder, name] for name in counts]
            changes = commit(
                start,
                end,
                shard=shard,
                epoch=epoch,
                bucket=this_bucket() - age,
                digests=[digest(number) for number in numbers],
                cells=[
                    (cells[holder, name], None if value is None else b'{"n":%d}' % value)
                    for name, value in writes.items()
                ],
                counters=counting(*changed),
                outbox=[entry(f"{end}-{at}") for at in range(entries)],
                dead_letters=[["reason", f"{end}-{at}"] for at in range(entries)],
            )
            try:
                result = await kit.store.commit(changes)
            finally:
                for each in changed:
                    each.reset()
            return result.outcome, set(result.refused), result.position

        self.same(map(call, self.kits, self.cells, self.counters))

    @rule(
        shard=shards,
        changes=st.dictionaries(
            st.sampled_from(names),
            st.none() | st.tuples(st.integers(-5, 9), st.sampled_from(["event", "wall"])),
        ),
        event_clock=st.none() | st.integers(0, 9),
    )
    def set_timers(self, shard: str, changes: dict[str, Any], event_clock: int | None) -> None:
        owned = self.memory.store.dump()["positions"].get(shard)
        if owned is None or owned[1] is None:
            return
        made = [
            removal(name) if value is None else setting(timer(name, *value))
            for name, value in changes.items()
        ]

        async def call(kit: Kit) -> object:
            return await kit.store.commit(
                commit(
                    owned[1],
                    owned[1],
                    shard=shard,
                    epoch=owned[0],
                    timers=made,
                    event_clock=event_clock,
                )
            )

        self.same(call(kit) for kit in self.kits)

    @rule(shard=shards, clock=st.sampled_from(["event", "wall"]), until=st.integers(-5, 9),
          limit=st.integers(0, 2))  # fmt: skip
    def due_timers(self, shard: str, clock: Any, until: int, limit: int) -> None:
        self.same(kit.store.due_timers(shard, clock, until, limit) for kit in self.kits)

    @rule(low=st.sampled_from(["0", "8"]), high=st.sampled_from(["7", "f"]))
    def inherit(self, low: str, high: str) -> None:
        ends = low * 32, high * 32
        self.same(kit.store.inherit_timers(SHARD, "orders/child", *ends) for kit in self.kits)
        self.same(kit.store.due_timers("orders/child", "wall", 99, 99) for kit in self.kits)

    @invariant()
    def the_same_is_stored(self) -> None:
        async def look(kit: Kit, cells: Any, counters: Any) -> object:
            counts = [await kit.counted(counters[0, name].key) for name in names]
            for fields in counts:
                fields.pop("v", None)
            states = [await kit.stored(cells[0, name].key) for name in names]
            held = [each.raw for each in cells.values()]
            copies = [_seen(each) for each in counters.values()]
            return states, held, counts, copies, await kit.outbox(), await kit.dead_letters()

        self.same(map(look, self.kits, self.cells, self.counters))

    def same(self, calls: Any) -> None:
        memory, redis = [self.runner.run(_answer(call)) for call in calls]
        assert memory == redis

    def teardown(self) -> None:
        self.runner.run(self.kits[1].store.aclose())
        self.runner.close()


def _do(cell: CounterCell, kind: str, name: str, operand: Any, bucket: Any = None) -> None:
    view = cell.view()
    if kind == "add":
        view.add(name, operand)
    elif kind == "bucket":
        view.add(f"{name}-by-day", operand, bucket=bucket)
    elif kind == "forget":
        view.forget(f"{name}-by-day", before=operand)
    else:
        getattr(view, kind)(name, operand)


def _seen(cell: CounterCell) -> object:
    view = cell.view()
    numbers = [view.value(name) for name in ("x", "y", "least", "most")]
    return numbers, [view.buckets(f"{name}-by-day") for name in "xy"], view.count("who")


async def _answer(call: Any) -> object:
    try:
        return await call
    except Fenced as fenced:
        return "FENCED", fenced.epoch


@pytest.mark.long
@pytest.mark.parametrize("layout", ["sets", "keys"])
def test_both_stores_answer_alike(redis_url: str, layout: Layout) -> None:
    run_state_machine_as_test(
        lambda: BothStores(redis_url, layout),
        settings=settings(max_examples=40, stateful_step_count=25, deadline=None),
    )
