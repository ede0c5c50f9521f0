"""Servers of a benchmark that stand still, together with the consumer that has them for itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import redis.asyncio

from streamproc_benchmarks.pinning import Cores
from streamproc_benchmarks.runs import open_benches
from tests.waiting import until

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


async def test_servers_that_rest_answer_when_they_wake() -> None:
    async with open_benches(["noop"], Cores(None, None, ""), 1, 30.0, {}) as benches:
        bench = benches["noop"]
        async with redis.asyncio.Redis.from_url(
            bench.servers.redis_url, socket_timeout=None
        ) as client:
            await client.set("before", 1)
            await bench.rest()
            await until(lambda: is_stopped(bench.servers.redis_pid))
            asked = asyncio.create_task(client.get("before"))
            await bench.wake()
            assert await asked == b"1"
            assert not is_stopped(bench.servers.redis_pid)


async def test_a_consumer_and_its_servers_stand_still_between_turns() -> None:
    async with open_benches(["noop"], Cores(None, None, ""), 2, 30.0, {}) as benches:
        bench = benches["noop"]
        await bench.load("events", "events", 5_000, 1)
        async with bench.consumer("noop", "events", 5_000, turn=2_000) as running:
            turns = 0
            while await running.take_turn():
                turns += 1
                await until(lambda: is_stopped(bench.servers.redis_pid))
            consumed = await running.finish()
    assert turns in (1, 2), "the first one goes on until both shards are being read"
    assert sum(len(batch.sequences) for batch in consumed.batches) == 5_000
    assert 0 < consumed.paused.wall < consumed.ended.at - consumed.started.at
