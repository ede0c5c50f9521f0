"""A full outbox holds up the commits that would add to it, and nothing else."""

from __future__ import annotations

import asyncio

import msgspec

from streamproc import Context, Event, Processor, on
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.state.cache import CellCache
from streamproc.testing import MemoryStateStore
from tests import virtual_time


class Ping(Event, id="name"):
    name: str
    quiet: bool = False


class Pong(Event):
    name: str


class Echo(Processor[int]):
    @on(Ping, key=lambda _: "k")
    def echo(self, event: Ping, ctx: Context[int]) -> None:
        ctx.state += 1
        if not event.quiet:
            ctx.emit(Pong(name=event.name))


def record(number: int, quiet: bool = False) -> Record:
    data = {"type": "Ping", "data": {"name": str(number), "quiet": quiet}}
    return Record(str(number), 0.0, msgspec.json.encode(data), "p")


async def shard_of(store: MemoryStateStore, limit: int, shard: str = "one") -> Transactor:
    """Return a shard in the hands of a worker of its own."""
    engine = Engine(
        group="test", stream="s", routes=Routes([Echo()], [store.keys]), stores=(store,),
        cache=CellCache(1 << 20), gate=KeyGate(), outbox_limit=limit,
    )  # fmt: skip
    await store.adopt(f"s/{shard}", 1, TRIM_HORIZON)
    return Transactor(engine, shard, 1, [ChainStart(TRIM_HORIZON)])


def test_a_commit_that_emits_waits_until_there_is_room_and_then_goes_on() -> None:
    async def main() -> None:
        store = MemoryStateStore()
        shard = await shard_of(store, limit=3)
        # A batch may pass the limit: it is judged by what was there before.
        await shard.process([record(n) for n in range(1, 6)])
        assert len(store.outbox) == 5
        before = store.dump()
        waiting = asyncio.create_task(shard.process([record(6)]))
        await asyncio.sleep(60)
        assert shard.waits_for_room
        assert store.dump() == before
        del store.outbox[:2]
        await asyncio.sleep(60)
        assert shard.waits_for_room, "three are as many as there may be"
        del store.outbox[:1]
        await asyncio.wait_for(waiting, 1)
        assert not shard.waits_for_room
        assert [entry["cause"] for entry in store.outbox] == [b"4", b"5", b"6"]
        assert shard.statistics.outbox_waits == 1
        assert 119 <= shard.statistics.outbox_wait_seconds <= 121

    virtual_time.run(main())


def test_a_commit_that_emits_nothing_does_not_wait() -> None:
    async def main() -> None:
        store = MemoryStateStore()
        shard = await shard_of(store, limit=1)
        await shard.process([record(1)])
        await asyncio.wait_for(shard.process([record(2, quiet=True)]), 0.1)
        assert shard.statistics.outbox_waits == 0

    virtual_time.run(main())


def test_what_another_shard_did_while_a_commit_waited_is_taken_into_account() -> None:
    async def main() -> None:
        store = MemoryStateStore()
        shard = await shard_of(store, limit=1)
        await shard.process([record(1)])
        waiting = asyncio.create_task(shard.process([record(2)]))
        await asyncio.sleep(10)
        other = await shard_of(store, limit=1, shard="two")
        await other.process([record(3, quiet=True)])
        store.outbox.clear()
        await asyncio.wait_for(waiting, 10)
        assert store.stored(store.keys.state_prefix("echo") + "k") == b"3"
        assert shard.statistics.conflicts == 1

    virtual_time.run(main())


def test_one_that_is_cancelled_while_it_waits_commits_nothing() -> None:
    async def main() -> None:
        store = MemoryStateStore()
        shard = await shard_of(store, limit=1)
        await shard.process([record(1)])
        before = store.dump()
        waiting = asyncio.create_task(shard.process([record(2)]))
        await asyncio.sleep(10)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not shard.waits_for_room
        assert store.dump() == before
        store.outbox.clear()
        await shard.process([record(2)])
        assert store.stored(store.keys.state_prefix("echo") + "k") == b"2"

    virtual_time.run(main())
