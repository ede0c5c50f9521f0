"""A relay killed between delivery and removal: the events are delivered again, none is lost."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest
import redis.asyncio

from streamproc.sinks.relay import OutboxRelay
from tests.sinks.making import KEYS, FakeSink, emit
from tests.waiting import until

# Its sink writes each event into a file, flushed to disk, and acknowledges it.
DILIGENT = """
import asyncio, os, sys
import redis.asyncio
from streamproc.sinks.relay import OutboxRelay
from streamproc.state.keys import Keys

class File:
    async def send(self, events):
        with open(sys.argv[2], "a") as file:
            for event in events:
                file.write(f"{event.key} {event.id}\\n")
                file.flush()
                await asyncio.sleep(0.001)
        return set(range(len(events)))

    async def aclose(self):
        pass

async def main():
    client = redis.asyncio.Redis.from_url(sys.argv[1])
    relay = OutboxRelay(client, Keys("payments"), File(), "w", batch=20, lock_ttl=0.3,
                        standby_interval=0.05, poll_interval=0.01)
    await relay.run()

asyncio.run(main())
"""

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


@pytest.mark.process
async def test_killed_again_and_again_at_any_moment_nothing_is_lost_and_each_key_stays_in_order(
    client: redis.asyncio.Redis, redis_url: str, tmp_path: Path
) -> None:
    rng = random.Random(7)
    emitted = [(f"e{n}", rng.choice("abc")) for n in range(300)]
    await emit(client, *emitted)
    delivered = tmp_path / "delivered"
    delivered.touch()
    for _ in range(3):
        goal = delivered.stat().st_size + rng.randrange(100, 600)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DILIGENT, redis_url, str(delivered)
        )
        try:
            await until(lambda goal=goal: delivered.stat().st_size >= goal, timeout=60)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        # What is not in the file was not acknowledged, so it must still be in the outbox.
        left = {fields[b"id"].decode() for _, fields in await client.xrange(KEYS.outbox)}
        taken = {event_id for _, event_id in _lines(delivered)}
        assert left | taken == {event_id for event_id, _ in emitted}
        assert left

    sink = FakeSink()
    relay = OutboxRelay(client, KEYS, sink, "last", standby_interval=0.05)
    task = asyncio.create_task(relay.run())
    await until(lambda: _is_empty(client), timeout=30)
    relay.stop()
    await task
    deliveries = _lines(delivered) + [(event.key, event.id) for event in sink.taken]
    first_deliveries = list(dict.fromkeys(deliveries))
    for key in "abc":
        assert [e for k, e in first_deliveries if k == key] == [e for e, k in emitted if k == key]


def _lines(delivered: Path) -> list[tuple[str, str]]:
    """Return (key, id) of each event that a relay wrote, one write each."""
    pairs = [line.split() for line in delivered.read_text().splitlines()]
    return [(key, event_id) for key, event_id in pairs]


async def _is_empty(client: redis.asyncio.Redis) -> bool:
    return int(await client.xlen(KEYS.outbox)) == 0
