"""An owner that comes back after its shard was taken: its write is refused, each time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.errors import Fenced
from tests.faults.proxy import FaultProxy, Late, Request
from tests.model.backends import RedisBackend
from tests.model.oracle import Oracle
from tests.model.owner import LeaseTable, Owner
from tests.model.shard_log import ShardLog
from tests.worker.group import Group
from tests.worker.process import WorkerProcess

TRIALS = 200


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    made = RedisBackend(redis_url, 1)
    await made.open()
    yield made
    await made.close()


@pytest.mark.long
async def test_a_stale_owners_commit_is_refused_in_200_of_200_trials(
    backend: RedisBackend,
) -> None:
    """The owner stands still with a commit on its lips; a successor has adopted the shard."""
    refused = 0
    for trial in range(TRIALS):
        rng = random.Random(trial)
        log = ShardLog(f"shard-{trial}")
        oracle, table = Oracle([log], 1), LeaseTable([log.shard_id])
        await backend.clear()
        stale = await take(backend, table, log, rng)
        await publish(oracle, log, rng, stale)
        while stale.pending[0].name != "commit":
            await answer(backend, stale)
        successor = await take(backend, table, log, rng)
        for _ in range(rng.choice((2, 2, 3, 4, 8))):  # at least adopted; maybe long past
            if successor.pending:
                await answer(backend, successor)
        before = await backend.held()
        await answer(backend, stale)
        assert isinstance(stale.task.exception(), Fenced)
        refused += stale.consumer.statistics.fenced
        assert await backend.held() == before, f"trial {trial}: the zombie has written"
        while successor.pending:
            await answer(backend, successor)
        oracle.check_finished(await backend.held())
        await successor.crash()
    assert refused == TRIALS


async def take(
    backend: RedisBackend, table: LeaseTable, log: ShardLog, rng: random.Random
) -> Owner:
    owner = Owner(backend.stores(), backend.keys, table, log, rng.randint(1, 4))
    await owner.settle()
    return owner


async def publish(oracle: Oracle, log: ShardLog, rng: random.Random, owner: Owner) -> None:
    for _ in range(rng.randint(1, 6)):
        oracle.publish(log.shard_id, rng.choice("xyz"))
    await owner.settle()


async def answer(backend: RedisBackend, owner: Owner) -> None:
    await owner.step(owner.pending[0], lambda call: backend.carry_out(call, "answered"))


@pytest.mark.process
@pytest.mark.parametrize("trial", range(2))
async def test_a_process_stopped_with_a_commit_on_its_way_comes_back_to_a_refusal(
    trial: int, group: Group, redis_url: str, tmp_path: Path
) -> None:
    """The commit itself is held up on the network until the successor has the shard."""
    accounts = [f"account-{n}" for n in range(4)]
    late = Late()
    armed = asyncio.Event()

    def hold_one_commit(request: Request) -> Late | None:
        if request.name == "commit" and armed.is_set():
            armed.clear()
            return late
        return None

    async with FaultProxy(redis_url) as proxy:
        proxy.decide = hold_one_commit
        stale = WorkerProcess(group, tmp_path, f"stale-{trial}", redis__url=proxy.url)
        other = WorkerProcess(group, tmp_path, f"other-{trial}")
        try:
            await stale.start()
            await group.until(stale.shards)
            group.publish_entries(range(10), accounts)
            await group.until_booked(dict.fromkeys(accounts, 10))
            armed.set()
            group.publish_entries(range(10, 20), accounts)
            await group.until(lambda: not armed.is_set())
            stale.signal(signal.SIGSTOP)
            await other.start()
            await group.until_booked(dict.fromkeys(accounts, 20))
            before = {key: await group.redis.dump(key) for key in await keys_of_state(group)}
            late.released.set()
            async with asyncio.timeout(10):
                await late.executed.wait()
            assert late.answer.startswith(b"*2\r\n$6\r\nFENCED\r\n")
            after = {key: await group.redis.dump(key) for key in await keys_of_state(group)}
            assert after == before
            stale.signal(signal.SIGCONT)
            group.publish_entries(range(20, 30), accounts)
            await group.until_booked(dict.fromkeys(accounts, 30))
            for account in accounts:
                assert await group.numbers(account) == list(range(30))
        finally:
            await stale.aclose()
            await other.aclose()


async def keys_of_state(group: Group) -> list[bytes]:
    """Return the keys that commits write: states, marks, outbox and positions."""
    return sorted(await group.redis.keys(f"sp:{{{group.name}:0}}:[so]*"))
