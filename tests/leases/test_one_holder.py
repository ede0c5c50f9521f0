"""At no time is a lease valid by the clocks of two workers, whatever the store does."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.leases.lease import Lease
from tests import virtual_time
from tests.leases.fleet import CONFIG, LITTLE, Fleet, fleet_test, in_fleet


@pytest.mark.parametrize("roster", [False, True], ids=["lease", "worker"])
@pytest.mark.parametrize("seed", range(12))
def test_under_lost_answers_and_calls_that_hang(seed: int, roster: bool) -> None:
    async def test(fleet: Fleet) -> None:
        await fleet.shards(12)
        for name in "abcd":
            fleet.start(name)
        for _ in range(600):
            await asyncio.sleep(0.25)
            _trouble(fleet)
            holders = [
                (key, worker.name)
                for worker in fleet.workers
                for key in worker.epochs
                if worker.leases.is_valid(key) and key not in worker.releasing
            ]
            assert len(holders) == len(dict(holders)), f"at {virtual_time.now()}: {holders}"
        for worker in fleet.workers:
            worker.wire.hangs = False
        await fleet.until(lambda: fleet.loads() == [3, 3, 3, 3], 120)

    in_fleet(test, seed, roster=roster)


def _trouble(fleet: Fleet) -> None:
    rng, victim = fleet.rng, fleet.rng.choice(fleet.workers)
    if rng.random() < 0.04:
        victim.wire.lose_answers = rng.randint(1, 4)
    elif rng.random() < 0.04:
        victim.wire.hangs = True
        loop = asyncio.get_running_loop()
        loop.call_later(rng.uniform(1, 14), setattr, victim.wire, "hangs", False)


@fleet_test
async def test_a_renewal_sent_twice_counts_from_the_first_time(fleet: Fleet) -> None:
    """The first one landed, its answer did not come; the second finds just what it would write.

    Others count from when they saw the counter move, which the first one did.
    """
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: bool(worker.epochs), 5)
    landed: list[float] = []
    table = fleet.table if fleet.roster is None else fleet.roster
    passed = table.replace

    async def replace(old: Lease, new: Lease) -> Lease | None:
        answer = await passed(old, new)
        if answer == new and old.counter == answer.counter - 1 and not landed:
            landed.append(virtual_time.now())
            worker.wire.lose_answers = 1
        return answer

    table.replace = replace  # type: ignore[method-assign]
    await fleet.until(lambda: bool(landed), CONFIG.duration)
    before = worker.leases.valid_until("shard-0")
    await fleet.until(lambda: worker.leases.valid_until("shard-0") != before, 2)
    assert worker.leases.valid_until("shard-0") <= landed[0] + CONFIG.duration + LITTLE
