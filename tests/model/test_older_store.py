"""A store that went back in time, met by workers who remember what it has forgotten."""

from __future__ import annotations

import itertools
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


class Story:
    """Owners of two shards, told round trip by round trip."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.a, self.b = ShardLog("shard-a"), ShardLog("shard-b")
        self.oracle = Oracle([self.a, self.b], 1)
        self.table = LeaseTable(["shard-a", "shard-b"])
        self.owners: list[Owner] = []

    async def take(self, log: ShardLog, batch: int) -> Owner:
        """Return a new owner that has yet to make its first round trip."""
        stores, keys = self.backend.stores(), self.backend.keys
        # Each look at the clock is a minute later, so that every batch is checked.
        minutes = itertools.count(step=60)
        owner = Owner(stores, keys, self.table, log, batch, clock=lambda: float(next(minutes)))
        self.owners.append(owner)
        await owner.settle()
        return owner

    async def go_on(self, owner: Owner, calls: int) -> None:
        """Let so many round trips succeed."""
        for _ in range(calls):
            await owner.step(
                owner.pending[0], lambda call: self.backend.carry_out(call, "answered")
            )

    async def publish(self, log: ShardLog, count: int) -> None:
        """Publish to a shard, all for one account."""
        for _ in range(count):
            self.oracle.publish(log.shard_id, "x")
        for owner in self.owners:
            await owner.settle()

    async def finish(self) -> None:
        """Let all owners go on, turn by turn, and see what came of it."""
        while any(owner.pending for owner in self.owners):
            for owner in self.owners:
                if owner.pending:
                    await self.go_on(owner, 1)
        self.oracle.check_finished(await self.backend.held())
        for owner in self.owners:
            if owner.is_alive:
                await owner.crash()


@pytest.fixture
async def story(backend: Backend) -> Story:
    return Story(backend)


async def test_a_state_of_a_lost_future_is_not_taken_for_the_present_one(story: Story) -> None:
    """Both futures have written the account as often, but not the same into it."""
    first = await story.take(story.a, batch=2)
    other = await story.take(story.b, batch=2)
    await story.go_on(first, 2)
    await story.go_on(other, 2)
    await story.publish(story.a, 1)
    await story.go_on(first, 2)
    await story.backend.remember()
    await story.publish(story.a, 2)
    await story.go_on(first, 2)
    await story.publish(story.b, 1)
    await story.go_on(other, 1)  # has loaded what `first` wrote, and not committed yet
    await story.backend.go_back()
    await first.crash()
    second = await story.take(story.a, batch=1)  # cuts the batches differently
    await story.go_on(second, 4)
    await story.finish()


async def test_a_position_that_is_lost_while_a_shard_is_adopted_is_not_put_back_without_its_state(
    story: Story,
) -> None:
    await story.backend.remember()
    first = await story.take(story.a, batch=2)
    await story.go_on(first, 2)
    await story.publish(story.a, 2)
    await story.go_on(first, 2)
    await first.crash()
    second = await story.take(story.a, batch=2)
    await story.go_on(second, 1)  # has found the position
    await story.backend.go_back()
    await story.finish()
