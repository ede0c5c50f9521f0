"""Random interleavings of owners, crashes, lost answers and older stores, against an oracle.

Each step of the machine ends one round trip of one owner, in one of the ways a network and a
process can end it. After every step the store must hold what the oracle says of its positions;
at the end, of the whole stream. `STREAMPROC_MODEL_EXAMPLES=2000` looks longer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.backends import Backend, MemoryBackend, RedisBackend
from tests.model.oracle import Oracle
from tests.model.owner import LeaseTable, Owner
from tests.model.shard_log import ShardLog
from tests.model.stepped_store import PendingCall

SHARDS = ("shard-a", "shard-b")
MOST_OWNERS = 4

shards = st.sampled_from(SHARDS)
accounts = st.sampled_from(("x", "y"))
endings = st.sampled_from(("answered",) * 6 + ("lost before", "lost after", "late"))
numbers = st.integers(0, 1000)
rarely = st.sampled_from((False,) * 5 + (True,))


class Model(RuleBasedStateMachine):
    """Owners of two shards that share their accounts; those that lost their lease go on."""

    def __init__(self, backend: Backend, partitions: int) -> None:
        super().__init__()
        self.backend = backend
        self.partitions = partitions
        self.runner = asyncio.Runner()
        self.owners: list[Owner] = []

    def await_(self, coroutine: Any) -> Any:
        return self.runner.run(_within(30, coroutine))

    @initialize()
    def begin(self) -> None:
        self.await_(self._begin())

    async def _begin(self) -> None:
        await self.backend.open()
        logs = [ShardLog(shard_id) for shard_id in SHARDS]
        self.logs = dict(zip(SHARDS, logs, strict=True))
        self.table = LeaseTable(list(SHARDS))
        self.oracle = Oracle(logs, self.partitions)
        for shard in SHARDS:
            for account in ("x", "y"):
                self.oracle.publish(shard, account)
            await self._take(shard, 2)

    @rule(shard=shards, account=accounts, count=st.integers(1, 4), refused=rarely)
    def publish(self, shard: str, account: str, count: int, refused: bool) -> None:
        self.await_(self._publish(lambda: self.oracle.publish(shard, account, refused), count))

    @rule(shard=shards, which=numbers, count=st.integers(1, 2))
    def publish_again(self, shard: str, which: int, count: int) -> None:
        self.await_(self._publish(lambda: self.oracle.publish_again(shard, which), count))

    async def _publish(self, once: Callable[[], None], count: int = 1) -> None:
        for _ in range(count):
            once()
        for owner in self._alive():
            await owner.settle()

    @precondition(lambda self: len(self._alive()) < MOST_OWNERS)
    @rule(shard=shards, batch=st.integers(1, 4))
    def take(self, shard: str, batch: int) -> None:
        self.await_(self._take(shard, batch))

    async def _take(self, shard: str, batch: int) -> Owner:
        owner = Owner(self.backend.stores(), self.backend.keys, self.table, self.logs[shard], batch)
        self.owners.append(owner)
        await owner.settle()
        return owner

    @precondition(lambda self: self._pending())
    @rule(which=numbers, ending=endings)
    def step(self, which: int, ending: str) -> None:
        owner, call = self._pick(which)
        self.await_(owner.step(call, lambda call: self.backend.carry_out(call, ending)))

    @precondition(lambda self: self._pending())
    @rule(which=numbers, count=st.integers(2, 12))
    def go_on(self, which: int, count: int) -> None:
        owner, _ = self._pick(which)
        for _ in range(count):
            if owner.pending:
                self.await_(owner.step(owner.pending[0], self._answered))

    @precondition(lambda self: self._alive())
    @rule(which=numbers, executed=st.integers(0, 2))
    def crash(self, which: int, executed: int) -> None:
        self.await_(self._crash(self._alive()[which % len(self._alive())], executed))

    async def _crash(self, owner: Owner, executed: int) -> None:
        """Kill an owner; the server had so many of its round trips in hand."""
        calls = owner.pending[:executed]
        await owner.crash()
        await asyncio.gather(*[call.make() for call in calls], return_exceptions=True)

    @rule(what=st.sampled_from(("late requests", "scripts", "dump", "dump", "go back")))
    def meddle_with_the_server(self, what: str) -> None:
        meddling = {
            "late requests": self.backend.deliver_late,
            "scripts": self.backend.forget_scripts,
            "dump": self.backend.remember,
            "go back": self.backend.go_back,
        }
        self.await_(meddling[what]())

    @invariant()
    def the_store_holds_what_its_positions_say(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.check(self.await_(self.backend.held()))

    def teardown(self) -> None:
        try:
            if hasattr(self, "oracle"):
                self.await_(self._finish())
        finally:
            self.await_(self._close())
            self.runner.close()

    async def _finish(self) -> None:
        """Let everything late arrive and every owner go on; new owners read to the end."""
        await self.backend.deliver_late()
        for shard in SHARDS:
            await self._take(shard, 3)
        while pending := self._pending():
            owner, call = pending[0]
            await owner.step(call, self._answered)
        self.oracle.check_finished(await self.backend.held())

    def _answered(self, call: PendingCall) -> Awaitable[Any]:
        return self.backend.carry_out(call, "answered")

    async def _close(self) -> None:
        for owner in self._alive():
            await owner.crash()
        await self.backend.close()

    def _alive(self) -> list[Owner]:
        return [owner for owner in self.owners if owner.is_alive]

    def _pending(self) -> list[tuple[Owner, PendingCall]]:
        return [(owner, call) for owner in self._alive() for call in owner.pending]

    def _pick(self, which: int) -> tuple[Owner, PendingCall]:
        pending = self._pending()
        return pending[which % len(pending)]


async def _within(seconds: float, coroutine: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await coroutine


def look(make_backend: Callable[[], Backend], partitions: int, examples: int) -> None:
    class Made(Model):
        def __init__(self) -> None:
            super().__init__(make_backend(), partitions)

    run_state_machine_as_test(
        Made,
        settings=settings(
            max_examples=int(os.environ.get("STREAMPROC_MODEL_EXAMPLES", examples)),
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("partitions", [1, 2])
def test_any_interleaving_in_memory_agrees_with_the_oracle(partitions: int) -> None:
    look(lambda: MemoryBackend(partitions), partitions, examples=30)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("partitions", [1, 2])
def test_any_interleaving_on_a_real_server_agrees_with_the_oracle(
    partitions: int, redis_url: str
) -> None:
    look(lambda: RedisBackend(redis_url, partitions), partitions, examples=10)
