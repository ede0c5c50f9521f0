"""Workers in virtual time, over one table, with stores that fail when told to."""

from __future__ import annotations

import asyncio
import builtins
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

import pytest

from streamproc.config import LeaseConfig
from streamproc.errors import LeaseStoreError
from streamproc.leases.coordinator import LeaseCoordinator
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.position import TRIM_HORIZON
from streamproc_checkpoints.memory import MemoryLeaseStore
from tests import virtual_time

T = TypeVar("T")

CONFIG = LeaseConfig(
    duration=10.0, scan_interval=2.0, checkpoint_interval=1.0, handover_timeout=30.0
)

CRASH_TAKEOVER = CONFIG.duration + CONFIG.scan_interval

LITTLE = 0.1
"""Seconds for the calls of a store and for looking."""


class Wire:
    """A store at the end of a wire: calls take a few milliseconds, and fail when told to.

    Attributes:
        down: every call fails, before it is applied.
        lose_answers: how many of the next writes are applied and then fail.
        hangs: no call is ever answered.
        latency: seconds that a call takes at least.
        swallow: how many cancelled calls answer all the same.
        writes: rows that were to be replaced.
        calls: how many were made, of any kind.
        rows_read: by looks at all leases.
    """

    def __init__(self, table: LeaseStore, rng: Random) -> None:
        self._table = table
        self._rng = rng
        self.down = False
        self.lose_answers = 0
        self.hangs = False
        self.latency = 0.0
        self.swallow = 0
        self.writes = 0
        self.calls = 0
        self.rows_read = 0

    async def list(self) -> list[Lease]:
        await self._travel()
        rows = await self._table.list()
        self.rows_read += len(rows)
        return rows

    async def create(self, lease: Lease) -> bool:
        await self._travel()
        return self._answer(await self._table.create(lease))

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        await self._travel()
        self.writes += 1
        return self._answer(await self._table.replace(old, new))

    async def delete(self, old: Lease) -> bool:
        await self._travel()
        return self._answer(await self._table.delete(old))

    async def aclose(self) -> None:
        pass

    async def call(self, operation: Callable[[], Awaitable[T]]) -> T:
        await self._travel()
        return self._answer(await operation())

    async def _travel(self) -> None:
        self.calls += 1
        try:
            delay = self.latency + self._rng.uniform(0.001, 0.005)
            await asyncio.sleep(1e6 if self.hangs else delay)
        except asyncio.CancelledError:
            if not self.swallow:
                raise
            self.swallow -= 1
        if self.down:
            raise LeaseStoreError("told to be down")

    def _answer(self, answer: T) -> T:
        if self.lose_answers:
            self.lose_answers -= 1
            raise LeaseStoreError("the answer was lost")
        return answer


class WideWire(Wire):
    """A wire to a store that takes many writes in one call."""

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        await self._travel()
        self.writes += len(changes)
        rows = [await self._table.replace(old, new) for old, new in changes]
        # One lost answer is that to all of these writes.
        self.lose_answers = max(min(self.lose_answers, 1), self.lose_answers - len(changes) + 1)
        return self._answer(rows)


class Branch:
    """Another table at the end of the same wire."""

    def __init__(self, wire: Wire, table: LeaseStore) -> None:
        self._wire = wire
        self._table = table

    async def list(self) -> list[Lease]:
        return await self._wire.call(self._table.list)

    async def create(self, lease: Lease) -> bool:
        return await self._wire.call(lambda: self._table.create(lease))

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        return await self._wire.call(lambda: self._table.replace(old, new))

    async def delete(self, old: Lease) -> bool:
        return await self._wire.call(lambda: self._table.delete(old))

    async def aclose(self) -> None:
        pass


class Worker:
    """A coordinator and the simplest engine: holds what it is given, hands over what is asked.

    Attributes:
        epochs: the epoch of every shard it processes now, or is about to release.
        releasing: those that it no longer processes.
        drain: seconds it takes to drain a shard that is asked for; None for ever.
        pause: seconds by which its clock is ahead of the others', as after being stopped.
    """

    def __init__(self, fleet: Fleet, name: str, config: LeaseConfig = CONFIG) -> None:
        self.name = name
        self.fleet = fleet
        self.epochs: dict[str, int] = {}
        self.lost: list[str] = []
        self.releasing: set[str] = set()
        self.asked: list[str] = []
        self.drain: float | None = 0.5
        self.pause = 0.0
        self.wire = (WideWire if fleet.wide else Wire)(fleet.table, fleet.rng)
        self.leases = LeaseCoordinator(
            self.wire,
            name,
            config,
            self,
            roster=None if fleet.roster is None else Branch(self.wire, fleet.roster),
            clock=lambda: virtual_time.now() + self.pause,
            sleep=asyncio.sleep,
            rng=Random(fleet.rng.random()),
        )
        self._tasks = [asyncio.create_task(self.leases.run())]

    def lease_acquired(self, lease: Lease) -> None:
        assert lease.key not in self.epochs, "acquired what is held"
        self.fleet.acquired(lease)
        self.epochs[lease.key] = lease.counter

    def lease_lost(self, key: str) -> None:
        del self.epochs[key]
        self.lost.append(key)

    def handover_requested(self, key: str) -> None:
        self.asked.append(key)
        if self.drain is not None:
            self._tasks.append(asyncio.create_task(self._hand_over(key, self.drain)))

    async def _hand_over(self, key: str, drain: float) -> None:
        await asyncio.sleep(drain)
        await self.release(key)

    async def release(self, key: str) -> bool:
        self.releasing.add(key)  # Nothing is processed from here on.
        done = await self.leases.release(key)
        self.releasing.discard(key)
        if done:
            del self.epochs[key]
        return done

    async def crash(self) -> None:
        """Stop without a word."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.fleet.workers.remove(self)

    async def stop(self) -> None:
        """Stop as a worker should: release everything, then end."""
        self.leases.stop_taking()
        await asyncio.gather(*(self.release(key) for key in list(self.epochs)))
        await self.leases.stop()
        await asyncio.gather(*self._tasks)
        self.fleet.workers.remove(self)


class Fleet:
    """Workers over one table; checks that epochs only ever grow.

    Args:
        seed: of delays and choices.
        roster: whether the workers renew their leases with one heartbeat.
        wide: whether the store takes many writes in one call.
    """

    def __init__(self, seed: int = 0, *, roster: bool = False, wide: bool = False) -> None:
        self.wide = wide
        self.rng = Random(seed)
        self.table = MemoryLeaseStore()
        self.roster = MemoryLeaseStore() if roster else None
        self.workers: list[Worker] = []
        self.epochs: dict[str, int] = {}

    def start(self, name: str, config: LeaseConfig = CONFIG) -> Worker:
        worker = Worker(self, name, config)
        self.workers.append(worker)
        return worker

    def acquired(self, lease: Lease) -> None:
        assert lease.counter > self.epochs.get(lease.key, 0), "an epoch is used twice"
        self.epochs[lease.key] = lease.counter

    async def shards(self, count: int) -> None:
        for n in range(count):
            await self.table.create(Lease(key=f"shard-{n}", checkpoint=TRIM_HORIZON))

    async def rows(self) -> dict[str, Lease]:
        return {lease.key: lease for lease in await self.table.list()}

    def loads(self) -> list[int]:
        return sorted(len(worker.epochs) for worker in self.workers)

    def holders(self) -> Counter[str]:
        """Return by how many workers each shard is held."""
        return Counter(key for worker in self.workers for key in worker.epochs)

    async def until(self, condition: Callable[[], bool], limit: float) -> float:
        """Wait until a condition holds, and return how many virtual seconds that took."""
        began = virtual_time.now()
        while not condition():
            assert virtual_time.now() - began < limit, f"not within {limit} s"
            await asyncio.sleep(0.01)
        return virtual_time.now() - began

    async def end(self) -> None:
        for worker in list(self.workers):
            await worker.crash()


def in_fleet(
    test: Callable[[Fleet], Awaitable[None]],
    seed: int = 0,
    *,
    roster: bool = False,
    wide: bool = False,
) -> None:
    """Run a test of a fleet in virtual time."""

    async def main() -> None:
        fleet = Fleet(seed, roster=roster, wide=wide)
        try:
            await test(fleet)
        finally:
            await fleet.end()

    virtual_time.run(main())


def fleet_test(test: Callable[[Fleet], Awaitable[None]]) -> Callable[[str], None]:
    """Make a coroutine function over a fleet a test that runs in virtual time.

    It runs three times: with leases renewed by a call for each, by a call for many, and by one
    heartbeat for all of a worker's.
    """

    @pytest.mark.parametrize("kept", ["lease", "many", "worker"])
    def run(kept: str) -> None:
        in_fleet(test, roster=kept == "worker", wide=kept == "many")

    run.__doc__ = test.__doc__
    return run


def single_lease_test(test: Callable[[Fleet], Awaitable[None]]) -> Callable[[], None]:
    """Make a test as `fleet_test` does, of what holds where leases are renewed one by one."""

    def run() -> None:
        in_fleet(test)

    run.__doc__ = test.__doc__
    return run
