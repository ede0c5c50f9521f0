"""A Redis that goes back in time, as after a failover or from an old dump."""

from __future__ import annotations

from collections.abc import Sequence

from tests.worker.group import Group


async def book_40_through_an_older_redis(group: Group, accounts: Sequence[str]) -> None:
    """Have 40 entries of each account booked; on the way, Redis forgets 20 of them."""
    group.publish_entries(range(10), accounts)
    await group.until_booked(dict.fromkeys(accounts, 10))
    old = await _snapshot(group)
    group.publish_entries(range(10, 30), accounts)
    await group.until_booked(dict.fromkeys(accounts, 30))
    await _put_back(group, old)
    group.publish_entries(range(30, 40), accounts)
    await group.until_booked(dict.fromkeys(accounts, 40))


async def _snapshot(group: Group) -> dict[bytes, bytes]:
    """Return a dump of every key."""
    keys = await group.redis.keys("*")
    return {key: await group.redis.dump(key) for key in keys}


async def _put_back(group: Group, dump: dict[bytes, bytes]) -> None:
    """Make Redis what it was at the time of the dump, in one step as a failover does."""
    async with group.redis.pipeline(transaction=True) as pipeline:
        pipeline.flushall()
        for key, value in dump.items():
            pipeline.restore(key, 0, value)
        await pipeline.execute()
