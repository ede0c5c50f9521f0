"""A commit that must be on a replica counts when it is, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamproc.errors import Fenced, TooFewReplicas
from streamproc.redis_client import TimedRedis, connect_redis
from streamproc.state.redis_store import RedisStateStore
from streamproc.state.replication import ReplicaWait
from tests.faults.replicated import ReplicatedRedis

from .stores import SHARD, START, commit, digest, position


@pytest.fixture
async def servers() -> AsyncIterator[ReplicatedRedis]:
    async with ReplicatedRedis() as made:
        yield made


@pytest.fixture
async def client(servers: ReplicatedRedis) -> AsyncIterator[TimedRedis]:
    async with connect_redis(servers.front.url, 5.0) as made:
        yield made


def store(client: TimedRedis, wait: ReplicaWait) -> RedisStateStore:
    return RedisStateStore(client, "g", 172_800.0, replicas=wait)


async def test_a_commit_is_answered_once_a_replica_has_it(
    servers: ReplicatedRedis, client: TimedRedis
) -> None:
    waiting = store(client, ReplicaWait(1, 5.0))
    await waiting.adopt(SHARD, 1, START)
    done = await waiting.commit(commit(START, position(5), digests=[digest(1)]))
    assert done.outcome == "OK"
    async with connect_redis(servers.replica.url, 5.0) as replica:
        assert await replica.hget(waiting.keys.positions, SHARD) == b"1|5:0"  # type: ignore[misc]


async def test_a_commit_without_enough_replicas_is_applied_and_waits_for_them(
    servers: ReplicatedRedis, client: TimedRedis
) -> None:
    waiting = store(client, ReplicaWait(1, 0.1))
    await waiting.adopt(SHARD, 1, START)
    await servers.until_in_step()
    servers.between.hold()
    held_back = commit(START, position(5), digests=[digest(1)])
    for _ in range(2):  # repeating it is no way around
        with pytest.raises(TooFewReplicas, match="0 of 1 replicas"):
            await waiting.commit(held_back)
    assert await client.hget(waiting.keys.positions, SHARD) == b"1|5:0"  # type: ignore[misc]
    servers.between.heal()
    await servers.until_in_step()
    done = await waiting.commit(held_back)
    assert (done.outcome, done.position) == ("MOVED", position(5)), "as after a lost answer"


async def test_connections_that_wait_do_not_pile_up(client: TimedRedis) -> None:
    waiting = store(client, ReplicaWait(1, 5.0))
    await waiting.adopt(SHARD, 1, START)
    before = START
    for number in range(20):
        await waiting.commit(commit(before, position(number)))
        before = position(number)
    assert len(await client.client_list()) <= 3  # this client's own, and the replica's


class _Meanwhile(ReplicaWait, frozen=True):
    """Between the commit and the wait for it, something else is stored."""

    stored: str = ""

    async def confirm(self, client: TimedRedis, key: str, shard: str, expected: str) -> bytes:
        await client.hset(key, shard, self.stored)  # type: ignore[misc]
        return await super().confirm(client, key, shard, expected)


async def test_a_primary_that_was_replaced_before_the_replicas_had_the_commit_shows(
    client: TimedRedis,
) -> None:
    replaced = store(client, _Meanwhile(1, 5.0, stored=f"1|{START.encode()}"))
    await replaced.adopt(SHARD, 1, START)
    done = await replaced.commit(commit(START, position(5)))
    assert (done.outcome, done.position) == ("MOVED", START)


async def test_a_new_owner_that_comes_before_the_replicas_have_the_commit_shows(
    client: TimedRedis,
) -> None:
    fenced = store(client, _Meanwhile(1, 5.0, stored="2|5:0"))
    await fenced.adopt(SHARD, 1, START)
    with pytest.raises(Fenced, match="epoch 1 is fenced off by epoch 2"):
        await fenced.commit(commit(START, position(5)))
