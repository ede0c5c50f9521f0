"""A relay killed between delivery and removal: the events are delivered again, none is lost."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
import redis.asyncio

from streamproc.sinks.relay import OutboxRelay
from tests.sinks.making import KEYS, FakeSink, emit, until

# Its sink writes the ids into a file, and then never comes to answer.
DOOMED = """
import asyncio, os, sys
import redis.asyncio
from streamproc.sinks.relay import OutboxRelay
from streamproc.state.keys import Keys

class Doomed:
    async def send(self, events):
        with open(sys.argv[2], "a") as file:
            file.write("".join(f"{event.id}\\n" for event in events))
            file.flush()
        await asyncio.Event().wait()

    async def aclose(self):
        pass

async def main():
    client = redis.asyncio.Redis.from_url(sys.argv[1])
    await OutboxRelay(client, Keys("payments"), Doomed(), "doomed", batch=3, lock_ttl=0.5).run()

asyncio.run(main())
"""


@pytest.mark.process
async def test_killed_between_delivery_and_removal_it_is_delivered_again_with_the_same_id(
    client: redis.asyncio.Redis, redis_url: str, tmp_path: Path
) -> None:
    await emit(client, *[(str(n), "k") for n in range(5)])
    delivered = tmp_path / "delivered"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOOMED, redis_url, str(delivered)
    )
    try:
        await until(lambda: delivered.exists() and delivered.read_text() == "0\n1\n2\n")
        process.send_signal(signal.SIGKILL)
    finally:
        await process.wait()
    assert await client.xlen(KEYS.outbox) == 5

    sink = FakeSink()
    relay = OutboxRelay(client, KEYS, sink, "next", standby_interval=0.05)
    task = asyncio.create_task(relay.run())
    await until(lambda: len(sink.ids) == 5)
    relay.stop()
    await task
    assert sink.ids == ["0", "1", "2", "3", "4"]
    assert await client.xlen(KEYS.outbox) == 0
