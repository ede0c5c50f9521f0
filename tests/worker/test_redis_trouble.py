"""Redis away, Redis restarted, Redis older than it was, answers lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ResponseError

from streamproc.testing import EmbeddedRedis, LocalKinesis
from tests.faults.proxy import CutAfter, FaultProxy
from tests.worker.group import Group
from tests.worker.older_redis import book_40_through_an_older_redis

ACCOUNTS = [f"account-{n}" for n in range(5)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A Redis of this test's own, which keeps every write on disk."""
    async with EmbeddedRedis(
        directory=tmp_path, appendonly=True, config={"appendfsync": "always"}
    ) as redis:
        yield redis


@pytest.fixture
async def own(local_kinesis: LocalKinesis, server: EmbeddedRedis) -> AsyncIterator[Group]:
    """A group on that Redis; its leases are elsewhere, as they are with DynamoDB."""
    async with Group(local_kinesis, server.url, shards=2) as made:
        made.defaults["leases.store"] = "memory"
        yield made


async def in_order_and_once(group: Group, count: int) -> None:
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(count))
    booked = await group.booked_ids()
    assert len(booked) == len(set(booked)) == count * len(ACCOUNTS)


async def test_nothing_is_lost_while_redis_is_away(own: Group, server: EmbeddedRedis) -> None:
    worker = own.start()
    own.publish_entries(range(20), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 20))
    await server.kill()
    own.publish_entries(range(20, 40), ACCOUNTS)
    await own.until(lambda: own.counted("store_errors") > 2)
    before = {shard.shard_id: shard.position for shard in worker.status().shards}
    await server.restart()
    await own.until_booked(dict.fromkeys(ACCOUNTS, 40))
    await in_order_and_once(own, 40)
    after = {shard.shard_id: shard.position for shard in worker.status().shards}
    assert any(after[shard] != before[shard] for shard in before)


async def test_a_worker_waits_for_a_redis_that_is_not_there_yet(
    own: Group, server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await server.kill()
    worker = own.start()
    own.publish_entries(range(10), ACCOUNTS)
    await own.until(lambda: "waiting: Redis at 127.0.0.1" in caplog.text)
    assert not worker.status().ready
    await server.restart()
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_redis_that_comes_back_older_is_noticed_and_rebuilt(
    own: Group, server: EmbeddedRedis, tmp_path: Path
) -> None:
    own.start()
    await book_40_through_an_older_redis(own, ACCOUNTS)
    await in_order_and_once(own, 40)
    assert own.counted("rewinds") > 0


async def test_a_commit_whose_answer_is_lost_is_not_applied_twice(
    local_kinesis: LocalKinesis, redis_url: str
) -> None:
    async with (
        FaultProxy(redis_url) as proxy,
        Group(local_kinesis, redis_url, shards=1) as group,
    ):
        group.start(redis__url=proxy.url, leases__store="memory", batch__records=10)
        await group.until(lambda: group.shards_adopted(1))
        proxy.on("commit", CutAfter(), times=4)
        group.publish_entries(range(30), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 30))
        await in_order_and_once(group, 30)
        assert proxy.broken == {"commit": 4}
        assert group.counted("store_errors") == 4
        assert group.counted("duplicates") == 0
        await group.until(lambda: group.counted("records") == 30 * len(ACCOUNTS))


async def test_scripts_are_loaded_again_after_redis_forgot_them(own: Group) -> None:
    own.start()
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await own.redis.script_flush()
    own.publish_entries(range(5, 10), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_read_only_redis_is_waited_for(own: Group, server: EmbeddedRedis) -> None:
    own.start()
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await own.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    own.publish_entries(range(5, 10), ACCOUNTS)
    await own.until(lambda: own.counted("store_errors") > 1)
    await own.redis.execute_command("REPLICAOF", "NO", "ONE")
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_redis_without_memory_is_waited_for(own: Group) -> None:
    own.start()
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await own.redis.config_set("maxmemory", 1)
    own.publish_entries(range(5, 10), ACCOUNTS)
    await own.until(lambda: own.counted("store_errors") > 1)
    await own.redis.config_set("maxmemory", 0)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_redis_that_is_busy_with_a_script_is_waited_for(own: Group) -> None:
    own.start()
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await own.redis.config_set("lua-time-limit", 50)
    async with redis.asyncio.Redis.from_url(
        own.redis_url, socket_timeout=None, retry=Retry(NoBackoff(), 0)
    ) as other:
        endless = asyncio.create_task(other.eval("while true do end", 0))  # type: ignore[arg-type]

        async def busy() -> bool:
            try:
                return not await own.redis.ping()
            except ResponseError:
                return True

        await own.until(busy)
        own.publish_entries(range(5, 10), ACCOUNTS)
        await own.until(lambda: own.counted("store_errors") > 1)
        await own.redis.script_kill()
        with pytest.raises(ResponseError):
            await endless
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_redis_that_loads_its_data_is_waited_for(own: Group, server: EmbeddedRedis) -> None:
    own.start()
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    async with own.redis.pipeline(transaction=False) as pipeline:
        for number in range(2_000):
            pipeline.set(f"other-{number}", "x")
        await pipeline.execute()
    await own.redis.bgrewriteaof()

    async def rewritten() -> bool:
        info = await own.redis.info("persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    await own.until(rewritten)
    server.settings |= {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
    await server.kill()
    own.publish_entries(range(5, 10), ACCOUNTS)
    restarting = asyncio.create_task(server.restart())
    answers = await answers_until(restarting, own.redis_url)
    assert BusyLoadingError in answers
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)


async def test_a_redis_that_is_silent_for_longer_than_a_call_may_take_applies_nothing_twice(
    own: Group, server: EmbeddedRedis
) -> None:
    own.start(redis__timeout=0.3, leases__duration=30.0)
    own.publish_entries(range(5), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 5))
    server.pause()
    own.publish_entries(range(5, 10), ACCOUNTS)
    # Requests reach the server's socket and wait there: it will execute them, with nobody to hear.
    await own.until(lambda: own.counted("store_errors") > 2)
    server.resume()
    await own.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await in_order_and_once(own, 10)
    await own.until(lambda: own.counted("records") == 10 * len(ACCOUNTS))


async def test_scripts_forgotten_between_any_two_calls(own: Group) -> None:
    own.start(batch__records=5)
    flushing = True

    async def flush() -> None:
        while flushing:
            await own.redis.script_flush()

    task = asyncio.create_task(flush())
    own.publish_entries(range(40), ACCOUNTS)
    await own.until_booked(dict.fromkeys(ACCOUNTS, 40))
    flushing = False
    await task
    await in_order_and_once(own, 40)
    assert own.counted("store_errors") == 0


async def answers_until(task: asyncio.Task[None], url: str) -> set[type]:
    """Ask a server until a task is done; return the kinds of its errors."""
    kinds: set[type] = set()
    async with redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        while not task.done():
            try:
                await client.get("x")
            except redis.RedisError as error:
                kinds.add(type(error))
            await asyncio.sleep(0)
    await task
    return kinds


async def test_a_redis_that_evicts_is_warned_about_at_the_start(
    local_kinesis: LocalKinesis, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EmbeddedRedis(config={"maxmemory-policy": "allkeys-lru"}) as server,
        Group(local_kinesis, server.url, shards=1) as group,
    ):
        worker = group.start()
        await group.until(lambda: worker.status().ready)
    assert "maxmemory-policy is allkeys-lru" in caplog.text
    assert "set it to noeviction" in caplog.text
