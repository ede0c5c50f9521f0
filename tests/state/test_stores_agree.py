"""Any sequence of calls gets the same answers from both stores and leaves the same behind."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

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

from .stores import (
    SHARD,
    START,
    Kit,
    MemoryKit,
    RedisKit,
    cell,
    commit,
    digest,
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


class BothStores(RuleBasedStateMachine):
    """Each call goes to both; two holders of each state take turns, as two workers would."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # A group of its own, instead of a flush: the server is the same for all runs.
        redis_kit = RedisKit(connect_redis(url, timeout=5.0), f"g-{uuid.uuid4().hex}")
        self.memory = MemoryKit()
        self.kits: list[Kit] = [self.memory, redis_kit]
        self.cells = [
            {(holder, name): cell(kit, name) for holder in (0, 1) for name in names}
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
        async def call(kit: Kit, cells: Any) -> object:
            held = [cells[holder, name] for name in names]
            _, seen = await kit.store.check([digest(number) for number in numbers], held)
            return seen, [each.read() for each in held]

        self.same(call(*each) for each in zip(self.kits, self.cells, strict=True))

    @rule(
        shard=shards,
        epoch=epochs,
        start=st.sampled_from([None, None, None, position(0)]),
        end=places,
        numbers=st.lists(st.integers(0, 40), max_size=4),
        age=st.integers(0, 3),
        holder=st.integers(0, 1),
        writes=st.dictionaries(st.sampled_from(names), st.none() | st.integers(0, 3)),
        entries=st.integers(0, 2),
    )
    def commit(
        self, shard: str, epoch: int, start: Any | None, end: Any, numbers: list[int], age: int,
        holder: int, writes: dict[str, int | None], entries: int,
    ) -> None:  # fmt: skip
        if start is None:  # most of the time, a commit starts from where the shard is
            positions = self.memory.store.dump()["positions"]
            start = positions.get(shard, (0, None))[1] or START

        async def call(kit: Kit, cells: Any) -> object:
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
                outbox=[["id", f"{end}-{at}"] for at in range(entries)],
                dead_letters=[["reason", f"{end}-{at}"] for at in range(entries)],
            )
            result = await kit.store.commit(changes)
            return result.outcome, set(result.refused), result.position

        self.same(call(*each) for each in zip(self.kits, self.cells, strict=True))

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
        async def look(kit: Kit, cells: Any) -> object:
            states = [await kit.stored(cells[0, name].key) for name in names]
            held = [each.raw for each in cells.values()]
            return states, held, await kit.outbox(), await kit.dead_letters()

        self.same(look(*each) for each in zip(self.kits, self.cells, strict=True))

    def same(self, calls: Any) -> None:
        memory, redis = [self.runner.run(_answer(call)) for call in calls]
        assert memory == redis

    def teardown(self) -> None:
        self.runner.run(self.kits[1].store.aclose())
        self.runner.close()


async def _answer(call: Any) -> object:
    try:
        return await call
    except Fenced as fenced:
        return "FENCED", fenced.epoch


def test_both_stores_answer_alike(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: BothStores(redis_url),
        settings=settings(max_examples=60, stateful_step_count=25, deadline=None),
    )
