"""Redis fails over to a replica that lags, restarts from an old dump, or is gone for long."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.position import Position
from streamproc.testing import EmbeddedRedis, LocalKinesis
from streamproc.worker import Worker
from tests.faults.link import Link
from tests.faults.replicated import ReplicatedRedis
from tests.worker.group import Group

ACCOUNTS = [f"account-{n}" for n in range(5)]
LAG_S = 5.0
# `STREAMPROC_OUTAGE_S=30` for the length that the guarantee speaks of; the behaviour is the same.
OUTAGE_S = float(os.environ.get("STREAMPROC_OUTAGE_S", "6"))


async def in_order_and_once(group: Group, count: int) -> None:
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(count))
    booked = await group.booked_ids()
    assert len(booked) == len(set(booked)) == count * len(ACCOUNTS)


def assert_no_checkpoint_beyond(committed: dict[str, str], worker: Worker) -> None:
    leases = worker.status().leases
    assert {lease.shard_id for lease in leases} == committed.keys()
    for lease in leases:
        assert Position.decode(lease.checkpoint) <= Position.decode(committed[lease.shard_id])


async def publish_for(group: Group, seconds: float, first: int) -> int:
    """Publish all the time and let the group keep up; return the next number."""
    until, number = time.monotonic() + seconds, first
    while time.monotonic() < until:
        group.publish_entries(range(number, number + 2), ACCOUNTS)
        number += 2
        await group.until_booked(dict.fromkeys(ACCOUNTS, number))
    return number


pytestmark = pytest.mark.long


@pytest.fixture
async def servers() -> AsyncIterator[ReplicatedRedis]:
    async with ReplicatedRedis() as made:
        yield made


@pytest.fixture
async def replicated(local_kinesis: LocalKinesis, servers: ReplicatedRedis) -> AsyncIterator[Group]:
    async with Group(local_kinesis, servers.front.url, shards=2) as group:
        group.defaults |= {"leases.store": "memory", "redis.timeout": 1.0}
        yield group


async def test_a_replica_that_was_cut_off_for_seconds_and_then_promoted_is_rebuilt(
    replicated: Group, servers: ReplicatedRedis
) -> None:
    group = replicated
    group.start()
    group.start()
    group.publish_entries(range(10), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await servers.until_in_step()
    await servers.between.cut()
    reached = await publish_for(group, LAG_S, 10)
    await servers.fail_over()
    group.publish_entries(range(reached, reached + 10), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, reached + 10))
    await in_order_and_once(group, reached + 10)
    assert group.counted("rewinds") > 0


async def test_a_commit_that_its_replica_has_survives_the_failover(
    replicated: Group, servers: ReplicatedRedis
) -> None:
    """With `wait_replicas` there is nothing to rewind: what counted is there."""
    group = replicated
    worker = group.start(redis__wait_replicas=1, redis__wait_timeout=0.5)
    group.publish_entries(range(10), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await group.until(lambda: group.counted("records") == 10 * len(ACCOUNTS))
    committed = {shard.shard_id: shard.position for shard in worker.status().shards}
    servers.between.hold()
    group.publish_entries(range(10, 20), ACCOUNTS)
    await group.until(lambda: group.counted("replica_shortfalls") > 1)
    positions = [shard.position for shard in worker.status().shards]
    assert positions == [committed[shard.shard_id] for shard in worker.status().shards]
    await servers.fail_over()
    servers.between.heal()
    assert_no_checkpoint_beyond(committed, worker)
    await group.stop(worker)
    group.start()  # one that does not wait: the new primary has no replica
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    await in_order_and_once(group, 20)


async def test_a_restart_from_an_old_dump_is_rebuilt(
    local_kinesis: LocalKinesis, tmp_path: Path
) -> None:
    async with (
        EmbeddedRedis(directory=tmp_path) as server,
        Group(local_kinesis, server.url, shards=2) as group,
    ):
        group.defaults |= {"leases.store": "memory", "redis.timeout": 1.0}
        group.start()
        group.start()
        group.publish_entries(range(10), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
        before = await group.redis.lastsave()
        await group.redis.bgsave()
        await group.until(lambda: (tmp_path / "dump.rdb").exists())
        await asyncio.to_thread(shutil.copy, tmp_path / "dump.rdb", tmp_path / "old.rdb")
        assert await group.redis.lastsave() >= before
        reached = await publish_for(group, LAG_S, 10)
        await server.kill()
        await asyncio.to_thread(shutil.copy, tmp_path / "old.rdb", tmp_path / "dump.rdb")
        await server.restart()
        group.publish_entries(range(reached, reached + 10), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, reached + 10))
        await in_order_and_once(group, reached + 10)
        assert group.counted("rewinds") > 0


@pytest.mark.parametrize("how", ["gone", "silent"])
async def test_without_redis_nothing_is_done_and_all_goes_on_within_5_s_of_its_return(
    how: str, local_kinesis: LocalKinesis, embedded_redis: EmbeddedRedis, redis_url: str
) -> None:
    """Gone: connections are refused. Silent: they stay open, and nobody answers."""
    async with (
        Link(embedded_redis.port) as link,
        Group(local_kinesis, redis_url, shards=2) as group,
    ):
        group.defaults |= {"leases.store": "memory", "redis.timeout": 1.0}
        worker = group.start(redis__url=link.url)
        group.publish_entries(range(10), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
        await group.until(lambda: group.counted("records") == 10 * len(ACCOUNTS))
        committed = {shard.shard_id: shard.position for shard in worker.status().shards}
        if how == "gone":
            await link.cut()
        else:
            link.hold()
        errors = group.counted("store_errors")
        group.publish_entries(range(10, 20), ACCOUNTS)
        await group.until(lambda: group.counted("store_errors") > errors)
        await asyncio.sleep(OUTAGE_S)  # the outage itself, in real time: sockets time out by it
        assert await group.redis.xlen(f"sp:{{{group.name}:0}}:outbox") == 10 * len(ACCOUNTS)
        assert_no_checkpoint_beyond(committed, worker)
        assert group.counted("records") == 10 * len(ACCOUNTS)
        link.heal()
        returned = time.monotonic()
        await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
        assert time.monotonic() - returned <= 5.0
        await in_order_and_once(group, 20)
