"""A store that went back in time, met by workers who remember what it has forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.model.backends import Backend, MemoryBackend, RedisBackend
from tests.model.oracle import Oracle
from tests.model.owner import LeaseTable, Owner
from tests.model.shard_log import ShardLog


@pytest.fixture(params=["memory", "redis"])
def unopened(request: pytest.FixtureRequest) -> Backend:
    if request.param == "memory":
        return MemoryBackend(1)
    return RedisBackend(request.getfixturevalue("redis_url"), 1)


@pytest.fixture
async def backend(unopened: Backend) -> AsyncIterator[Backend]:
    await unopened.open()
    yield unopened
    await unopened.close()


async def test_a_state_of_a_lost_future_is_not_taken_for_the_present_one(
    backend: Backend,
) -> None:
    """Both futures have written the account as often, but not the same into it."""
    a, b = ShardLog("shard-a"), ShardLog("shard-b")
    oracle, table = Oracle([a, b], 1), LeaseTable(["shard-a", "shard-b"])

    async def go_on(owner: Owner, calls: int) -> None:
        for _ in range(calls):
            await owner.step(owner.pending[0], lambda call: backend.carry_out(call, "answered"))

    async def take(log: ShardLog, batch: int) -> Owner:
        owner = Owner(backend.stores(), backend.keys, table, log, batch)
        await owner.settle()
        await go_on(owner, 2)
        return owner

    async def publish(log: ShardLog, owner: Owner, count: int) -> None:
        for _ in range(count):
            oracle.publish(log.shard_id, "x")
        await owner.settle()

    first, other = await take(a, batch=2), await take(b, batch=2)
    await publish(a, first, 1)
    await go_on(first, 2)
    await backend.remember()
    await publish(a, first, 2)
    await go_on(first, 2)
    await publish(b, other, 1)
    await go_on(other, 1)  # has loaded what `first` wrote, and not committed yet
    await backend.go_back()
    await first.crash()
    second = await take(a, batch=1)  # cuts the batches differently
    await go_on(second, 2)
    while second.pending or other.pending:
        for owner in (other, second):
            if owner.pending:
                await go_on(owner, 1)
    oracle.check_finished(await backend.held())
    for owner in (other, second):
        await owner.crash()
