"""Timers of real workers: on time, once through SIGKILL, carried along by reshards."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.alarms import Alarms, armed
from tests.worker.group import Group
from tests.worker.process import WorkerProcess

OWNERS = [f"owner-{n}" for n in range(40)]


async def rang(group: Group) -> list[dict[str, Any]]:
    """Return what rang, in the order of the outbox."""
    entries = await group.redis.xrange(f"sp:{{{group.name}:0}}:outbox")
    return [json.loads(fields[b"data"])["data"] for _, fields in entries]


async def rang_count(group: Group) -> int:
    return await group.redis.xlen(f"sp:{{{group.name}:0}}:outbox")  # type: ignore[no-any-return]


async def log(group: Group, owner: str) -> list[str]:
    raw = await group.redis.hget(f"sp:{{{group.name}:0}}:s:alarms:{owner}", "d")  # type: ignore[misc]
    return json.loads(raw or b"[]")  # type: ignore[no-any-return]


async def pending(group: Group) -> int:
    keys = await group.redis.keys(f"sp:{{{group.name}:0}}:timers:*:wall")
    keys += await group.redis.keys(f"sp:{{{group.name}:0}}:timers:*:event")
    return sum([await group.redis.zcard(key) for key in keys])


async def each_rang_once(group: Group, alarms: dict[str, str]) -> None:
    """The end state that every scenario here must reach."""
    ids = [each["alarm_id"] for each in await rang(group)]
    assert sorted(ids) == sorted(alarms)
    for owner in set(alarms.values()):
        own = sorted(name for name, whose in alarms.items() if whose == owner)
        noted = await log(group, owner)
        assert sorted(noted) == sorted([f"+{n}" for n in own] + [f"-{n}" for n in own])
    assert await pending(group) == 0


async def test_alarms_ring_within_a_second_and_never_early(group: Group) -> None:
    worker = group.start(Alarms())
    await group.until(lambda: group.shards_adopted(2))
    begin = time.time() + 1.0
    alarms = {f"a{n}": OWNERS[n % 40] for n in range(300)}
    group.publish(
        (owner, armed(name, owner, begin + n / 200))
        for n, (name, owner) in enumerate(alarms.items())
    )

    async def all_rang() -> bool:
        return await rang_count(group) >= len(alarms)

    await group.until(all_rang)
    await each_rang_once(group, alarms)
    late = sorted(each["late"] for each in await rang(group))
    assert late[0] >= -0.002, "Redis's clock is this host's, to the millisecond"
    assert late[int(len(late) * 0.99)] < 1.0
    statistics = [shard.statistics for shard in worker.status().shards]
    assert sum(each.timers_fired for each in statistics) == len(alarms)
    assert sum(shard.timers_pending for shard in worker.status().shards) == 0


@pytest.mark.process
async def test_a_worker_killed_while_alarms_ring_leaves_none_out_and_rings_none_twice(
    group: Group, tmp_path: Path
) -> None:
    use = {"processors.alarms.use": "tests.worker.alarms:Alarms"}
    first = WorkerProcess(group, tmp_path, "one", **use)
    second = WorkerProcess(group, tmp_path, "two", **use)
    try:
        await asyncio.gather(first.start(), second.start())
        await group.until(first.shards)
        await group.until(second.shards)
        alarms = {f"a{n}": OWNERS[n % 40] for n in range(4_000)}
        due = time.time() + 2.0
        group.publish((owner, armed(name, owner, due)) for name, owner in alarms.items())

        async def some_rang() -> bool:
            return bool(await rang_count(group))

        await group.until(some_rang)
        first.signal(signal.SIGKILL)
        assert 0 < await rang_count(group) <= len(alarms)

        async def all_rang() -> bool:
            return await rang_count(group) >= len(alarms)

        await group.until(all_rang)
        await each_rang_once(group, alarms)
    finally:
        await first.aclose()
        await second.aclose()


async def test_a_split_and_a_merge_carry_alarms_along(group: Group) -> None:
    worker = group.start(Alarms(), batch__records=100)
    start = time.time()
    by_wall = {f"w{n}": OWNERS[n % 40] for n in range(200)}
    by_event = {f"e{n}": OWNERS[n % 40] for n in range(200)}
    group.publish((o, armed(name, o, start + 3)) for name, o in by_wall.items())
    group.publish((o, armed(name, o, start + 1, "event")) for name, o in by_event.items())

    async def all_armed() -> bool:
        return await pending(group) >= 400 - await rang_count(group)

    await group.until(all_armed)
    one, two = sorted(group.shard_ids())
    group.split(one)
    await group.until(lambda: one not in group.shard_ids())
    left, right = sorted(set(group.shard_ids()) - {two})
    await group.until(lambda: {left, right} <= {s.shard_id for s in worker.status().shards})
    group.merge(right, two)
    await group.until(lambda: two not in group.shard_ids())
    await group.until(lambda: len(worker.status().shards) == 2)
    # Whatever has not rung by now is with the children; these make the rest due there.
    await group.until(lambda: time.time() > start + 1)
    more = {f"m{n}": OWNERS[n % 40] for n in range(40)}
    group.publish((o, armed(name, o, start + 3)) for name, o in more.items())
    everything = by_wall | by_event | more

    async def all_rang() -> bool:
        return await rang_count(group) >= len(everything)

    await group.until(all_rang)
    await each_rang_once(group, everything)
    assert {each["shard"] for each in await rang(group) if each["alarm_id"] in by_wall} == set(
        group.shard_ids()
    )
