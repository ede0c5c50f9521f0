"""KPL aggregates, from the stream to the commit."""

from __future__ import annotations

from tests.kinesis.kpl import User, aggregate, hash_of
from tests.worker.group import Group, entry


async def test_a_batch_may_end_and_a_worker_may_die_inside_an_aggregate(group: Group) -> None:
    # All in the first half of the hash keys, as the record itself: nothing is astray.
    accounts = [key for key in map(str, range(30)) if hash_of(key) < 2**127][:3]
    for first in range(0, 100, 20):
        users = [User(a, entry(n, a)) for n in range(first, first + 20) for a in accounts]
        group.publish([(accounts[0], aggregate(users))])
    worker = group.start(batch__records=7)
    await group.until_booked({accounts[0]: 15})
    await group.kill(worker)
    group.start(batch__records=11)
    await group.until_booked(dict.fromkeys(accounts, 100))
    for account in accounts:
        assert await group.numbers(account) == list(range(100))
    assert len(await group.booked_ids()) == 300
