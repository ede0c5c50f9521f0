"""What leases cost in DynamoDB: whole fleets in virtual time, and every call of theirs counted.

`python -m tests.leases.cost` prints the table of docs/leases.md. KCL's figures are computed from
its algorithm: the timers, scans, queries and rows that its sources name.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec

from streamproc.config import LeaseConfig
from streamproc.leases.coordinator import LeaseCoordinator
from streamproc.leases.lease import Lease
from streamproc.position import Position
from streamproc_checkpoints.dynamodb_items import LeaseItems
from streamproc_checkpoints.memory import MemoryLeaseStore
from tests import virtual_time

__all__ = ["ITEMS", "Units", "item_bytes", "kcl2", "kcl3", "lease_rows", "measure"]

CONFIG = LeaseConfig()
SEQUENCE = "49590338271490256608559692538361571095921575989136588898"
HOUR = 3600.0

ITEMS = LeaseItems()
_WORKER_ROW = 250
"""Bytes of a row of KCL's worker metrics: name, times, ten values of each of some metrics."""


class Units(NamedTuple):
    """Request units an hour and lease: a write of up to 1 KB; a consistent read of up to 4 KB."""

    writes: float
    reads: float

    @property
    def price(self) -> float:
        """The units in writes; a read unit costs a fifth of a write unit."""
        return self.writes + self.reads / 5


class Meter:
    """Counts units in all tables of a fleet."""

    def __init__(self) -> None:
        self.writes = 0.0
        self.reads = 0.0


class MeteredStore:
    """A table that costs what DynamoDB would charge for its calls."""

    metered = True

    def __init__(self, table: MemoryLeaseStore, meter: Meter, rng: Random, *, consistent: bool):
        self._table = table
        self._meter = meter
        self._rng = rng
        self._read = 1.0 if consistent else 0.5

    async def list(self) -> list[Lease]:
        await self._travel()
        rows = await self._table.list()
        self._meter.reads += scan_units(rows, self._read)
        return rows

    async def create(self, lease: Lease) -> bool:
        await self._travel()
        self._meter.writes += 1
        return await self._table.create(lease)

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        await self._travel()
        self._meter.writes += math.ceil(item_bytes(ITEMS.encode(new)) / 1024)
        return await self._table.replace(old, new)

    async def delete(self, old: Lease) -> bool:
        await self._travel()
        self._meter.writes += 1
        return await self._table.delete(old)

    async def aclose(self) -> None:
        pass

    async def _travel(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.002, 0.006))


class _Engine:
    """Holds what it is given; its shards move once a second, if they do."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.coordinator: LeaseCoordinator | None = None

    def lease_acquired(self, lease: Lease) -> None:
        self.held.add(lease.key)

    def lease_lost(self, key: str) -> None:
        self.held.discard(key)

    def handover_requested(self, key: str) -> None:
        raise AssertionError(f"{key}: a balanced fleet is at rest")

    async def move(self) -> None:
        assert self.coordinator is not None
        number = int(SEQUENCE)
        while True:
            await asyncio.sleep(1.0)
            number += 1
            for key in self.held:
                self.coordinator.note_position(key, Position(f"{number}"), "redis-1")


def measure(
    leases: int,
    workers: int,
    renewal: Literal["lease", "worker"],
    *,
    moving: bool,
    seconds: float = 240.0,
) -> Units:
    """Run a fleet at rest and return what it cost."""
    config = msgspec.structs.replace(CONFIG, renewal=renewal)
    return virtual_time.run(_run(config, leases, workers, moving, seconds))


async def _run(
    config: LeaseConfig, leases: int, workers: int, moving: bool, seconds: float
) -> Units:
    rng, meter = Random(leases * 1000 + workers), Meter()
    table, roster = MemoryLeaseStore(), MemoryLeaseStore()
    for row in lease_rows(leases, workers):
        await table.create(row)
    engines, tasks = [], []
    for n in range(workers):
        engine = _Engine()
        heartbeats = MeteredStore(roster, meter, rng, consistent=True)
        engine.coordinator = LeaseCoordinator(
            MeteredStore(table, meter, rng, consistent=False),
            f"worker-{n:02d}",
            config,
            engine,
            roster=heartbeats if config.renewal == "worker" else None,
            clock=virtual_time.now,
            sleep=asyncio.sleep,
            rng=Random(rng.random()),
        )
        engines.append(engine)
        tasks.append(asyncio.create_task(engine.coordinator.run()))
        if moving:
            tasks.append(asyncio.create_task(engine.move()))
        await asyncio.sleep(rng.uniform(0.0, 0.1))
    await asyncio.sleep(30.0)
    assert sum(len(engine.held) for engine in engines) == leases
    writes, reads = meter.writes, meter.reads
    await asyncio.sleep(seconds)
    assert sum(len(engine.held) for engine in engines) == leases
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    hours = seconds / HOUR * leases
    return Units((meter.writes - writes) / hours, (meter.reads - reads) / hours)


def lease_rows(leases: int, workers: int) -> list[Lease]:
    """Return rows as they are in a fleet that runs for long, evenly spread."""
    return [
        Lease(
            key=f"shardId-{n:012d}",
            owner=f"worker-{n % workers:02d}",
            counter=100_000,
            checkpoint=Position(SEQUENCE),
            parents=(f"shardId-{n + 10**6:012d}",),
            starting_hash_key=f"{2**127 + n}",
            ending_hash_key=f"{2**127 + n + 1}",
            incarnation="0123456789abcdef0123456789abcdef",
            stream_created=1_700_000_000,
        )
        for n in range(leases)
    ]


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Return an item's size as DynamoDB counts it: names, text and sets in UTF-8, short numbers."""
    total = 0
    for name, value in item.items():
        [(kind, content)] = value.items()
        total += len(name)
        if kind == "N":
            total += math.ceil(len(content) / 2) + 1
        else:
            total += sum(len(text) for text in ([content] if kind == "S" else content))
    return total


def scan_units(rows: Iterable[Lease], unit: float) -> float:
    """Return the read units of a scan; `unit` is 0.5 for eventual, 1 for consistent reads."""
    size = sum(item_bytes(ITEMS.encode(row)) for row in rows)
    return unit * max(1, math.ceil(size / 4096))


def kcl2(leases: int, workers: int) -> Units:
    """Compute KCL 2.x: every worker renews its leases and scans the table."""
    scan = scan_units(lease_rows(leases, workers), 0.5)
    writes = leases * HOUR / 3.308
    taker = workers * HOUR / 20.05 * scan
    leader_election = workers * HOUR / 300 * scan
    return Units(writes / leases, (taker + leader_election) / leases)


def kcl3(leases: int, workers: int) -> Units:
    """Compute KCL 3.x: a leader scans leases and metrics, workers query their own leases."""
    scan = scan_units(lease_rows(leases, workers), 0.5)
    metrics_scan = 0.5 * max(1, math.ceil(workers * _WORKER_ROW / 4096))
    index_entry = 130  # two names, two values and the entry's overhead
    query = 0.5 * max(1, math.ceil(leases / workers * index_entry / 4096))
    renewals = leases * HOUR / 3.308
    reports = workers * HOUR / 30
    leader_lock = HOUR / 30
    assignment = HOUR / 20 * (scan + metrics_scan)
    discovery = workers * HOUR / 9.975 * query
    leader_checks = workers * HOUR / 30 * 1.0
    return Units(
        (renewals + reports + leader_lock) / leases,
        (assignment + discovery + leader_checks) / leases,
    )


def main() -> None:
    """Print the table."""
    print("| leases | workers | | KCL 2.x | KCL 3.x | shared table | table of our own |")
    print("|---|---|---|---|---|---|---|")
    for leases in (1, 100, 2_000):
        for workers in (1, 10, 50):
            computed = [kcl2(leases, workers), kcl3(leases, workers)]
            for moving in (False, True):
                measured = [
                    measure(leases, workers, renewal, moving=moving)
                    for renewal in ("lease", "worker")
                ]
                cells = [f"{u.writes:,.1f} / {u.reads:,.1f}" for u in (*computed, *measured)]
                label = "moving" if moving else "idle"
                print(f"| {leases:,} | {workers} | {label} | {' | '.join(cells)} |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
