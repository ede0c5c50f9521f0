"""A minute that nothing is heard of, with the settings that ship: too long for every run.

`LONG_TESTS=1 python -m pytest tests/worker/test_long_pauses.py` takes some three minutes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.worker.group import Group
from tests.worker.process import WorkerProcess

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(600),
    pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="minutes long; LONG_TESTS"),
]

MINUTE = 60.0
ACCOUNTS = ["account-0", "account-1", "account-2"]


@pytest.fixture
async def processes(group: Group, tmp_path: Path) -> AsyncIterator[dict[str, WorkerProcess]]:
    """Two workers to start, leases as they ship."""
    group.defaults |= {"leases.duration": 10.0, "leases.scan_interval": 2.0}
    blocking = {"processors__ledger__use": "tests.worker.ledger:MinuteLedger"}
    made = {
        "plain": WorkerProcess(group, tmp_path, "plain"),
        "blocking": WorkerProcess(group, tmp_path, "blocking", **blocking),
        "rival": WorkerProcess(group, tmp_path, "rival"),
    }
    yield made
    await asyncio.gather(*[process.aclose() for process in made.values()])


async def test_a_handler_that_blocks_the_loop_for_a_minute_keeps_its_lease(
    group: Group, processes: dict[str, WorkerProcess]
) -> None:
    worker, rival = processes["blocking"], processes["rival"]
    await worker.start()
    group.publish_entries(range(1), ACCOUNTS[:1])

    async def blocked() -> bool:
        return "blocking" in worker.log.read_text()

    await group.until(blocked, timeout=60.0)
    await rival.start()
    await group.until_booked({ACCOUNTS[0]: 1}, timeout=2 * MINUTE)
    assert "lost" not in worker.log.read_text()
    assert await group.booked_ids() == [f"{ACCOUNTS[0]}-0"]


async def test_a_process_stopped_for_a_minute_comes_back_harmless(
    group: Group, processes: dict[str, WorkerProcess]
) -> None:
    paused, rival = processes["plain"], processes["rival"]
    await paused.start()
    await group.until(paused.shards, timeout=60.0)
    group.publish_entries(range(20), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20), timeout=60.0)
    paused.signal(signal.SIGSTOP)
    await rival.start()
    group.publish_entries(range(20, 60), ACCOUNTS)
    await asyncio.sleep(MINUTE)  # real time: the kernel holds the process, and its leases expire
    await group.until_booked(dict.fromkeys(ACCOUNTS, 60), timeout=60.0)
    paused.signal(signal.SIGCONT)
    group.publish_entries(range(60, 90), ACCOUNTS)

    async def shared_again() -> bool:
        return await paused.shards() == 1 and await rival.shards() == 1

    await group.until(shared_again, timeout=MINUTE)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 90), timeout=60.0)
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(90))
    booked = await group.booked_ids()
    assert len(booked) == len(set(booked)) == 90 * len(ACCOUNTS)
