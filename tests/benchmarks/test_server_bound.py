"""A real run in which a server is really what keeps the consumer from being faster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import redis.asyncio

from streamproc_benchmarks.pinning import choose_cores
from streamproc_benchmarks.runs import open_benches
from streamproc_benchmarks.throughput_run import ThroughputPlan, measure_throughput

# A few milliseconds of a core, in which Redis answers nobody.
_WORK = "local n = 0; for i = 1, 200000 do n = n + i end; return n"
PLAN = ThroughputPlan(consumers=["noop"], records=4_000, rounds=1, shards=4, seed=1)
SMALL_BATCHES = {"batch.records": 50}


@asynccontextmanager
async def kept_busy(url: str) -> AsyncIterator[None]:
    """Have Redis work for somebody else all the time: two scripts are always there."""

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(url, socket_timeout=None) as client:
            while True:
                await client.eval(_WORK, 0)

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.process
async def test_a_worker_that_waits_for_a_busy_redis_is_not_judged_by_the_clock() -> None:
    cores = choose_cores()
    if cores.load is None:
        pytest.skip("servers and consumer would share a core")
    async with (
        open_benches(PLAN.names, cores, PLAN.shards, 60.0, SMALL_BATCHES) as benches,
        kept_busy(benches["noop"].servers.redis_url),
    ):
        found = await measure_throughput(benches, PLAN, lambda _: None)
    (noop,) = found.rounds["noop"]
    assert noop.bottleneck == "server"
    assert noop.consumer_share < 0.9
    assert noop.records_per_second < 0.5 * noop.records_per_cpu_second
    beside_another = msgspec.structs.replace(found, rounds={"noop": [noop], "typed": [noop]})
    by_the_clock, by_cpu = beside_another.bars()
    assert by_the_clock.unjudged == "the wall rate of noop is the server's"
    assert not by_cpu.unjudged
    (wall,) = [each for each in found.figures() if each.name.endswith("noop.records_per_second")]
    assert "LocalKinesis and Redis were the bottleneck in 1 of 1 rounds" in wall.caveat
    assert any(note.startswith("noop: LocalKinesis and Redis") for note in found.caveats())
