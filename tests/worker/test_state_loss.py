"""Redis has lost the group's state, or is another one: what `on_state_loss` makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.errors import StateLost
from streamproc.state.keys import partition_of_text
from streamproc.testing import EmbeddedRedis
from streamproc.worker import Worker
from tests.worker.group import Group

ACCOUNTS = [f"account-{n}" for n in range(5)]


@pytest.fixture
async def apart(group: Group) -> Group:
    """The group with leases that Redis does not hold, as they are with DynamoDB."""
    group.defaults["leases.store"] = "memory"
    return group


@pytest.fixture
async def other_server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    async with EmbeddedRedis(directory=tmp_path) as server:
        yield server


async def ended_with_state_lost(group: Group, worker: Worker) -> str:
    with pytest.raises(StateLost) as lost:
        async with asyncio.timeout(20):
            await group.workers.pop(worker)
    return str(lost.value)


async def test_a_flush_under_a_running_worker_halts_it_before_anything_is_booked_anew(
    apart: Group,
) -> None:
    worker = apart.start()
    apart.publish_entries(range(5), ACCOUNTS)
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await apart.redis.flushall()
    apart.publish_entries(range(5, 8), ACCOUNTS)
    assert "worker.on_state_loss" in await ended_with_state_lost(apart, worker)
    assert await apart.booked_ids() == []


async def test_replay_rebuilds_under_a_running_worker(apart: Group) -> None:
    apart.start(worker__on_state_loss="replay")
    apart.publish_entries(range(5), ACCOUNTS)
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await apart.redis.flushall()
    apart.publish_entries(range(5, 8), ACCOUNTS)
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 8))
    for account in ACCOUNTS:
        assert await apart.numbers(account) == list(range(8))
    assert apart.counted("rewinds") > 0


async def test_continue_goes_on_where_the_group_was_with_empty_state(apart: Group) -> None:
    worker = apart.start(worker__on_state_loss="continue")
    apart.publish_entries(range(5), ACCOUNTS)
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await apart.stop(worker)
    await apart.redis.flushall()
    apart.publish_entries(range(5, 8), ACCOUNTS)
    apart.start(worker__on_state_loss="continue")
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 3))
    for account in ACCOUNTS:
        assert await apart.numbers(account) == [5, 6, 7]


async def test_a_flush_that_takes_the_leases_along_is_noticed_by_a_worker_that_lives(
    group: Group,
) -> None:
    """The leases are made anew, as if the group were new; the worker knows that it is not."""
    worker = group.start(leases__store="redis")
    group.publish_entries(range(5), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await group.redis.flushall()
    assert "worker.on_state_loss" in await ended_with_state_lost(group, worker)
    assert await group.booked_ids() == []


async def test_a_spare_worker_notices_such_a_flush_as_well(group: Group) -> None:
    """It never held a shard, but met the Redis that the state was in when it started."""
    first = group.start(leases__store="redis")
    group.publish_entries(range(5), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await group.stop(first)
    await group.redis.hset(  # type: ignore[misc]
        f"sp:{{{group.name}}}:leases",
        mapping={
            key: value.replace(b'"counter"', b'"owner":"elsewhere","counter"')
            for key, value in (
                await group.redis.hgetall(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
            ).items()
        },
    )
    spare = group.start(leases__store="redis", leases__duration=60.0)
    await group.until(lambda: spare.status().ready)
    assert spare.status().shards == []
    await group.redis.flushall()
    await ended_with_state_lost(group, spare)


async def test_a_group_that_has_begun_can_be_told_not_to_begin_again(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"leases__store": "redis", "worker__on_new_group": "halt"}
    first = group.start(leases__store="redis")
    group.publish_entries(range(3), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 3))
    assert "If it has run before, its data is gone" in caplog.text
    await group.stop(first)
    second = group.start(**settings)
    group.publish_entries(range(3, 5), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await group.stop(second)
    await group.redis.flushall()
    third = group.start(**settings)
    assert "worker.on_new_group" in await ended_with_state_lost(group, third)
    assert await group.booked_ids() == []


async def test_another_server_is_refused_and_taken_with_its_own_positions_when_told(
    apart: Group, other_server: EmbeddedRedis
) -> None:
    """The other one was read into by a group of the same name, less far."""
    apart.publish_entries(range(4), ACCOUNTS)
    async with apart.elsewhere(other_server.url) as staging:
        worker = staging.start(leases__store="redis")
        await staging.until_booked(dict.fromkeys(ACCOUNTS, 4))
        await staging.stop(worker)
    apart.publish_entries(range(4, 9), ACCOUNTS)
    worker = apart.start()
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 9))
    await apart.stop(worker)
    message = await ended_with_state_lost(apart, apart.start(redis__url=other_server.url))
    assert "another server" in message
    async with apart.elsewhere(other_server.url) as mistaken:
        mistaken.start(leases__store="memory", worker__on_state_loss="replay")
        await mistaken.until_booked(dict.fromkeys(ACCOUNTS, 9))
        for account in ACCOUNTS:
            assert await mistaken.numbers(account) == list(range(9))


async def test_a_single_partition_that_is_lost_is_noticed_and_rebuilt(apart: Group) -> None:
    apart.defaults["redis.partitions"] = 3
    worker = apart.start()
    apart.publish_entries(range(6), ACCOUNTS)
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 6))
    await apart.stop(worker)
    lost = partition_of_text(ACCOUNTS[0], 3)
    keys = await apart.redis.keys(f"sp:{{{apart.name}:{lost}}}:*")
    assert await apart.redis.delete(*keys) == len(keys) > 0
    apart.publish_entries(range(6, 8), ACCOUNTS)
    assert "no position" in await ended_with_state_lost(apart, apart.start())
    apart.start(worker__on_state_loss="replay")
    await apart.until_booked(dict.fromkeys(ACCOUNTS, 8))
    for account in ACCOUNTS:
        assert await apart.numbers(account) == list(range(8))
