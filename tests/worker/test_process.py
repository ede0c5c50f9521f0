"""Real worker processes and real signals: what an operator and a crash do to a fleet."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.group import Group
from tests.worker.process import WorkerProcess

pytestmark = pytest.mark.process

ACCOUNTS = [f"account-{n}" for n in range(7)]
Start = Callable[..., Awaitable[WorkerProcess]]


@pytest.fixture
async def start(group: Group, tmp_path: Path) -> AsyncIterator[Start]:
    """Start worker processes by name; all end with the test."""
    processes: list[WorkerProcess] = []

    async def start_one(name: str, **settings: Any) -> WorkerProcess:
        process = WorkerProcess(group, tmp_path, name, **settings)
        processes.append(process)
        await process.start()
        return process

    yield start_one
    await asyncio.gather(*[process.aclose() for process in processes])


async def in_order_and_once(group: Group, count: int) -> None:
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(count))
    booked = await group.booked_ids()
    assert len(booked) == len(set(booked)) == count * len(ACCOUNTS)


async def test_sigterm_drains_releases_and_exits_with_0(group: Group, start: Start) -> None:
    worker = await start("one")
    group.publish_entries(range(100), ACCOUNTS)
    await group.until(worker.shards)
    worker.signal(signal.SIGTERM)
    assert await worker.exit_code() == 0, worker.log.read_text()
    leases = await group.redis.hvals(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
    assert leases
    assert not any(b'"owner"' in lease for lease in leases), "a clean stop releases its leases"
    await start("two")
    await group.until_booked(dict.fromkeys(ACCOUNTS, 100))
    await in_order_and_once(group, 100)


async def test_a_killed_workers_events_take_effect_once(group: Group, start: Start) -> None:
    first, second = await start("one"), await start("two")
    await group.until(first.shards)
    await group.until(second.shards)
    group.publish_entries(range(150), ACCOUNTS)
    await group.until_booked({ACCOUNTS[0]: 1})
    first.signal(signal.SIGKILL)
    group.publish_entries(range(150, 300), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 300))
    await in_order_and_once(group, 300)


async def test_a_worker_stopped_beyond_its_lease_comes_back_harmless(
    group: Group, start: Start
) -> None:
    paused = await start("paused")
    await group.until(paused.shards)
    group.publish_entries(range(20), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    paused.signal(signal.SIGSTOP)
    other = await start("other")
    group.publish_entries(range(20, 60), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 60))
    paused.signal(signal.SIGCONT)
    group.publish_entries(range(60, 90), ACCOUNTS)

    async def shared_again() -> bool:
        return await paused.shards() == 1 and await other.shards() == 1

    await group.until(shared_again)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 90))
    await in_order_and_once(group, 90)


async def test_a_second_signal_exits_at_once(group: Group, start: Start) -> None:
    worker = await start("slow", processors__ledger__use="tests.worker.ledger:StuckLedger")
    group.publish_entries(range(1), ACCOUNTS)

    async def busy() -> bool:
        return "stuck" in worker.log.read_text()

    await group.until(busy)
    worker.signal(signal.SIGTERM)

    async def draining() -> bool:
        status = await worker.status()
        return status is not None and status["state"] == "draining"

    await group.until(draining)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert await worker.exit_code() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(group: Group, start: Start) -> None:
    worker = await start("blocked", processors__ledger__use="tests.worker.ledger:BlockingLedger")
    group.publish_entries(range(1), ACCOUNTS[:1])

    async def blocked() -> bool:
        return "blocking" in worker.log.read_text()

    await group.until(blocked)
    rival = await start("rival")  # would take an expired lease within 2.2 s
    await group.until_booked({ACCOUNTS[0]: 1})
    assert "lost" not in worker.log.read_text()
    assert await group.booked_ids() == [f"{ACCOUNTS[0]}-0"]
    assert rival.process.returncode is None
