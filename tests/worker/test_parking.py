"""Parked keys in real workers: the owner of the key's shard redrives, whoever that is by then."""

from __future__ import annotations

import redis.asyncio

from streamproc import Context, Policy, on
from streamproc.aside import Aside
from streamproc.state.keys import Keys, partition_of_key
from tests.worker.group import Group
from tests.worker.ledger import Account, Entry, Ledger

ACCOUNTS = [f"account-{n}" for n in range(6)]
BROKEN = ACCOUNTS[2]


class ParkingLedger(Ledger):
    """Cannot book the fifth entry of one account until it is mended."""

    name = "ledger"
    policy = Policy(attempts=2, backoff=(0.0, 0.01), then="park")
    is_mended = False

    @on(Entry, key="account")
    def book(self, event: Entry, ctx: Context[Account]) -> None:
        if event.account == BROKEN and event.number == 5 and not self.is_mended:
            raise RuntimeError("cannot be booked yet")
        super().book(event, ctx)


def aside(group: Group, partition: int = 0) -> Aside:
    client: redis.asyncio.Redis = group.redis
    return Aside(client, Keys(group.name, partition))


async def until_parked(group: Group, records: int, partition: int = 0) -> None:
    async def parked() -> bool:
        found = await aside(group, partition).parked_key(BROKEN)
        return found is not None and found.records == records

    await group.until(parked)


async def booked_around(group: Group, count: int) -> None:
    """Every other account is whole, and the broken one as far as it goes."""
    await group.until_booked({a: count for a in ACCOUNTS if a != BROKEN} | {BROKEN: 5})
    assert await group.numbers(BROKEN) == list(range(5))


async def test_a_parked_key_is_redriven_in_order_while_more_arrives(group: Group) -> None:
    ledger = ParkingLedger()
    worker = group.start(ledger)
    group.publish_entries(range(20), ACCOUNTS)
    await booked_around(group, 20)
    await until_parked(group, 15)
    await group.until(lambda: worker.status().parked_keys == 1)
    ledger.is_mended = True
    await aside(group).want(BROKEN)
    group.publish_entries(range(20, 60), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 60))
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(60))
    assert await aside(group).parked_key(BROKEN) is None
    assert group.counted("redriven") >= 15
    assert group.counted("redriven") == group.counted("parked")
    await group.until(lambda: worker.status().parked_keys == 0)


async def test_after_a_split_the_childs_owner_redrives(group: Group) -> None:
    ledger = ParkingLedger()
    first = group.start(ledger)
    group.publish_entries(range(20), ACCOUNTS)
    await until_parked(group, 15)
    group.kinesis.core.call("UpdateShardCount", StreamName=group.stream, TargetShardCount=4,
                            ScalingType="UNIFORM_SCALING")  # fmt: skip
    await group.until(lambda: len(first.status().shards) == 4)
    group.publish_entries(range(20, 30), ACCOUNTS)
    await until_parked(group, 25)
    await group.kill(first)
    group.start(ledger)
    ledger.is_mended = True
    await aside(group).want(BROKEN)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 30))
    assert await group.numbers(BROKEN) == list(range(30))


async def test_a_key_that_fails_again_stays_parked_until_it_is_asked_for_again(
    group: Group,
) -> None:
    ledger = ParkingLedger()
    group.start(ledger)
    group.publish_entries(range(10), ACCOUNTS)
    await until_parked(group, 5)
    await aside(group).want(BROKEN)

    async def tried() -> bool:
        found = await aside(group).parked_key(BROKEN)
        return found is not None and found.head.attempts == 4 and not found.wanted

    await group.until(tried)
    assert await group.numbers(BROKEN) == list(range(5))
    ledger.is_mended = True
    await aside(group).want(BROKEN)
    await group.until_booked({BROKEN: 10})


async def test_each_partition_has_parked_keys_of_its_own(group: Group) -> None:
    ledger = ParkingLedger()
    group.start(ledger, redis__partitions=3)
    partition = partition_of_key(BROKEN, 3)
    group.publish_entries(range(10), ACCOUNTS)
    await until_parked(group, 5, partition)
    for other in {0, 1, 2} - {partition}:
        assert await aside(group, other).parked_key(BROKEN) is None
    ledger.is_mended = True
    await aside(group, partition).want(BROKEN)

    async def done() -> bool:
        return await aside(group, partition).parked_key(BROKEN) is None

    await group.until(done)
    key = f"{Keys(group.name, partition).state_prefix('ledger')}{BROKEN}"
    stored = await group.redis.hget(key, "d")  # type: ignore[misc]
    assert stored == b'{"numbers":[0,1,2,3,4,5,6,7,8,9]}'
