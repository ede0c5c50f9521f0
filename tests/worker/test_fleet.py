"""Four worker processes under load, killed, stopped, resumed and replaced, through reshards."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from streamproc_checkpoints.redis import open_store
from tests.worker.group import Group
from tests.worker.process import WorkerProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(480)]

ACCOUNTS = [f"account-{n}" for n in range(11)]
DURATION, SCAN = 3.0, 0.3

Start = Callable[[str], Awaitable[WorkerProcess]]


@pytest.fixture
async def start(group: Group, tmp_path: Path) -> AsyncIterator[Start]:
    processes: list[WorkerProcess] = []
    group.defaults |= {"leases.duration": DURATION, "leases.scan_interval": SCAN}

    async def start_one(name: str) -> WorkerProcess:
        process = WorkerProcess(group, tmp_path, name)
        processes.append(process)
        await process.start()
        return process

    yield start_one
    await asyncio.gather(*[process.aclose() for process in processes])


class Load:
    """Publishes numbers for all accounts, without end."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.count = 0
        self._task = asyncio.create_task(self._publish())

    async def stop(self) -> int:
        self._task.cancel()
        await asyncio.wait([self._task])
        return self.count

    async def _publish(self) -> None:
        while True:
            self._group.publish_entries(range(self.count, self.count + 5), ACCOUNTS)
            self.count += 5
            await asyncio.sleep(0.1)


async def owners(group: Group) -> dict[str, str | None]:
    """Return who holds each unfinished lease."""
    store = await open_store(group.name, {"url": group.redis_url})
    try:
        return {row.key: row.processor for row in await store.list() if not row.is_finished}
    finally:
        await store.aclose()


async def taken_over_from(group: Group, name: str, since: float) -> float:
    """Wait until no lease names a worker; return how many seconds that took."""

    async def gone() -> bool:
        now = await owners(group)
        return bool(now) and all(owner not in (None, name) for owner in now.values())

    await group.until(gone, timeout=60.0)
    return time.monotonic() - since


async def test_a_fleet_under_load_loses_nothing_doubles_nothing_and_keeps_the_order(
    group: Group, start: Start
) -> None:
    first, second = group.shard_ids()
    group.split(first)
    group.split(second)  # Four shards to begin with.
    workers = {name: await start(name) for name in ("a", "b", "c", "d")}
    load = Load(group)

    async def shared() -> bool:
        held = [await worker.shards() for worker in workers.values()]
        return held == [1, 1, 1, 1]

    await group.until(shared, timeout=180.0)  # Four interpreters start at once.
    took: dict[str, float] = {}

    workers.pop("a").signal(signal.SIGKILL)
    took["kill -9"] = await taken_over_from(group, "a", time.monotonic())

    group.split(group.shard_ids()[0])
    paused = workers["b"]
    paused.signal(signal.SIGSTOP)
    took["SIGSTOP"] = await taken_over_from(group, "b", time.monotonic())
    group.split(group.shard_ids()[-1])
    paused.signal(signal.SIGCONT)

    stopping = workers.pop("c")
    stopping.signal(signal.SIGTERM)
    began = time.monotonic()
    assert await stopping.exit_code() == 0
    took["SIGTERM"] = await taken_over_from(group, "c", began)

    await _merge_neighbours(group)
    newcomer = await start("e")
    await group.until(newcomer.shards, timeout=60.0)
    count = await load.stop()
    await group.until_booked(dict.fromkeys(ACCOUNTS, count), timeout=90.0)

    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(count)), "lost, doubled or out of order"
    booked = await group.booked_ids()
    assert len(booked) == len(set(booked)) == count * len(ACCOUNTS)
    print("taken over after", {how: f"{seconds:.1f} s" for how, seconds in took.items()})
    # Generous, for a machine that does other things, too; the bounds proper are the simulation's.
    assert took["kill -9"] < 2 * (DURATION + SCAN) + 2
    assert took["SIGSTOP"] < 2 * (DURATION + SCAN) + 2


async def _merge_neighbours(group: Group) -> None:
    """Merge two open shards that adjoin."""
    shards = group.kinesis.core.account.streams[group.stream].open_shards
    group.merge(shards[0].id, shards[1].id)
