"""Counters that all shards of several workers add to are exact in the end, whatever happens."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc import StateReader
from streamproc.testing import LocalKinesis
from tests.faults.proxy import CutAfter, FaultProxy
from tests.worker.group import Group
from tests.worker.ledger import CountingLedger
from tests.worker.older_redis import book_40_through_an_older_redis
from tests.worker.process import WorkerProcess

ACCOUNTS = [f"account-{n}" for n in range(12)]


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    async with Group(local_kinesis, redis_url, shards=4) as made:
        yield made


async def everything_is_counted_once(group: Group, count: int) -> None:
    async with StateReader(group.redis_url, group.name) as reader:
        stored = await reader.get_counters("ledger", "all")
    assert stored is not None
    assert stored.values.values == {"entries": count * len(ACCOUNTS), "most": count - 1}
    assert sum(stored.values.buckets["by-rest"].values()) == count * len(ACCOUNTS)
    assert stored.values.distinct == {"accounts": len(ACCOUNTS)}
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(count))


async def test_workers_share_a_counter_without_conflicts(group: Group) -> None:
    group.publish_entries(range(60), ACCOUNTS)
    group.publish_entries(range(20), ACCOUNTS)
    group.publish_entries([-1, -2], ACCOUNTS)
    for _ in range(2):
        group.start(CountingLedger(), batch__records=20)
    group.publish_entries(range(60, 100), ACCOUNTS)
    await group.until(lambda: group.counted("records") == 122 * len(ACCOUNTS))
    await everything_is_counted_once(group, 100)
    assert group.counted("conflicts") == 0
    assert group.counted("dead_letters") == 2 * len(ACCOUNTS)


async def test_lost_answers_count_nothing_twice(group: Group, redis_url: str) -> None:
    async with FaultProxy(redis_url) as proxy:
        group.start(CountingLedger(), redis__url=proxy.url, leases__store="memory",
                    batch__records=10)  # fmt: skip
        await group.until(lambda: group.shards_adopted(4))
        proxy.on("commit", CutAfter(), times=8)
        group.publish_entries(range(40), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 40))
        await everything_is_counted_once(group, 40)
        assert proxy.broken == {"commit": 8}


async def test_counters_are_rebuilt_with_an_older_redis(group: Group) -> None:
    group.defaults["leases.store"] = "memory"
    for _ in range(2):
        group.start(CountingLedger())
    await book_40_through_an_older_redis(group, ACCOUNTS)
    await everything_is_counted_once(group, 40)


@pytest.mark.process
async def test_a_killed_workers_counts_are_exact(group: Group, tmp_path: Path) -> None:
    use = {"processors.ledger.use": "tests.worker.ledger:CountingLedger"}
    workers = [WorkerProcess(group, tmp_path, name, **use) for name in ("one", "two")]
    try:
        for worker in workers:
            await worker.start()
        for worker in workers:
            await group.until(worker.shards)
        group.publish_entries(range(60), ACCOUNTS)
        await group.until_booked({ACCOUNTS[0]: 1})
        workers[0].signal(signal.SIGKILL)
        group.publish_entries(range(60, 100), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 100))
        await everything_is_counted_once(group, 100)
    finally:
        for worker in workers:
            await worker.aclose()
