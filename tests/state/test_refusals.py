"""A script that cannot do everything does nothing: foreign keys, no memory, no writes allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from streamproc.errors import StateStoreError
from streamproc.position import Position
from streamproc.redis_client import connect_redis
from streamproc.state.store import Commit
from streamproc.testing import EmbeddedRedis

from .stores import SHARD, START, RedisKit, cell, commit, digest, entry, position, setting, timer


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[RedisKit]:
    kit = RedisKit(connect_redis(redis_url, timeout=5.0))
    yield kit
    await kit.store.aclose()


def everything(kit: RedisKit, start: Position = START, number: int = 1) -> Commit:
    """Return a commit that writes to every kind of key."""
    return commit(
        start,
        position(number),
        digests=[digest(number)],
        cells=[(cell(kit, "a"), b'{"n":1}'), (cell(kit, "b"), b'{"n":2}')],
        outbox=[entry("1")],
        dead_letters=[["reason", "x"]],
        timers=[setting(timer("t", 10)), setting(timer("u", 20, "event"))],
        event_clock=5,
    )


KEYS: dict[str, Callable[[RedisKit], str]] = {
    "positions": lambda kit: kit.store.keys.positions,
    "seen": lambda kit: kit.store.keys.seen(commit(START, START).bucket),
    "seen before": lambda kit: kit.store.keys.seen(commit(START, START).bucket - 1),
    "state": lambda kit: cell(kit, "b").key,
    "outbox": lambda kit: kit.store.keys.outbox,
    "dead letters": lambda kit: kit.store.keys.dead_letters,
    "timers": lambda kit: kit.store.keys.timers(SHARD)[0],
    "timers by event time": lambda kit: kit.store.keys.timers(SHARD)[1],
    "timers by the wall clock": lambda kit: kit.store.keys.timers(SHARD)[2],
}


@pytest.mark.parametrize("name", KEYS)
async def test_a_key_of_another_type_is_refused_before_any_write(kit: RedisKit, name: str) -> None:
    await kit.store.adopt(SHARD, 1, START)
    key = KEYS[name](kit)
    await kit.client.delete(key)
    await kit.client.set(key, "somebody else's")
    before = await kit.dump()
    with pytest.raises(StateStoreError, match="WRONGTYPE"):
        await kit.store.commit(everything(kit))
    assert await kit.dump() == before


async def test_the_same_commit_passes_where_the_keys_are_ours(kit: RedisKit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    assert (await kit.store.commit(everything(kit))).outcome == "OK"


async def test_without_memory_nothing_is_written_and_with_it_everything() -> None:
    async with EmbeddedRedis() as server:
        kit = RedisKit(connect_redis(server.url, timeout=5.0))
        await kit.store.adopt(SHARD, 1, START)
        used = int((await kit.client.info("memory"))["used_memory"])
        await kit.client.config_set("maxmemory", used // 2)
        before = await kit.dump()
        with pytest.raises(StateStoreError, match=r"OOM|maxmemory"):
            await kit.store.commit(everything(kit))
        with pytest.raises(StateStoreError, match=r"OOM|maxmemory"):
            await kit.store.adopt("orders/other", 1, START)
        assert await kit.dump() == before
        await kit.client.config_set("maxmemory", 0)
        assert (await kit.store.commit(everything(kit))).outcome == "OK"
        await kit.store.aclose()


async def test_wherever_memory_ends_a_commit_is_whole_or_nothing() -> None:
    """Redis looks at the memory before a script's first write; past that, all of it passes."""
    async with EmbeddedRedis() as server:
        kit = RedisKit(connect_redis(server.url, timeout=5.0))
        await kit.store.adopt(SHARD, 1, START)
        await kit.store.commit(everything(kit))
        big = cell(kit, "big")
        made = commit(
            position(1),
            position(2),
            digests=[digest(n) for n in range(10, 5_000)],
            cells=[(big, b'"' + b"x" * 500_000 + b'"')],
            outbox=[entry(str(n)) for n in range(1_000)],
        )
        refused = 0
        for room in range(100_000, 10_000_000, 200_000):
            used = int((await kit.client.info("memory"))["used_memory"])
            await kit.client.config_set("maxmemory", used + room)
            before = await kit.dump()
            try:
                assert (await kit.store.commit(made)).outcome == "OK"
                break
            except StateStoreError:
                refused += 1
                assert await kit.dump() == before
        assert refused > 0
        await kit.client.config_set("maxmemory", 0)
        assert len(await kit.stored(big.key) or b"") == 500_002
        assert len(await kit.outbox()) == 1_001
        assert (await kit.store.adopt(SHARD, 1, None)).position == position(2)
        await kit.store.aclose()


async def test_a_read_only_replica_is_refused_before_any_write() -> None:
    async with EmbeddedRedis() as server:
        kit = RedisKit(connect_redis(server.url, timeout=5.0))
        await kit.store.adopt(SHARD, 1, START)
        await kit.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        before = await kit.dump()
        with pytest.raises(StateStoreError, match="read only"):
            await kit.store.commit(everything(kit))
        assert await kit.dump() == before
        await kit.store.aclose()


async def test_too_few_replicas_are_refused_before_any_write() -> None:
    async with EmbeddedRedis() as server:
        kit = RedisKit(connect_redis(server.url, timeout=5.0))
        await kit.store.adopt(SHARD, 1, START)
        await kit.client.config_set("min-replicas-to-write", 1)
        before = await kit.dump()
        with pytest.raises(StateStoreError, match=r"[Nn]ot enough good replicas|NOREPLICAS"):
            await kit.store.commit(everything(kit))
        assert await kit.dump() == before
        await kit.store.aclose()
