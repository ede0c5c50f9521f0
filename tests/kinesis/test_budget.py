from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.budget import Account, ByteBudget


async def settled() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def keep(account: Account, size: int) -> None:
    """Fetch an answer of that size."""
    await account.reserve(size)
    account.settle(size)


async def asking(account: Account, size: int) -> asyncio.Task[None]:
    """Ask for a reservation that is expected to wait, unless it is granted at once."""
    task = asyncio.create_task(account.reserve(size))
    await settled()
    return task


async def give_up(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_fits_is_granted_at_once_and_counted() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    await account.reserve(60)
    assert (account.reserved, account.kept) == (60, 0)
    account.settle(45)
    statistics = budget.statistics()
    assert (statistics.reserved, statistics.kept, statistics.peak) == (0, 45, 60)
    account.release(45)
    assert budget.statistics().kept == 0


async def test_a_reservation_waits_until_there_is_room() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    await first.reserve(80)
    waiting = await asking(second, 30)
    assert not waiting.done()
    assert second.is_waiting
    assert budget.statistics().waiting == 1
    first.settle(60)
    await waiting
    assert second.reserved == 30
    assert budget.statistics().waiting == 0


async def test_more_than_the_capacity_is_granted_as_all_of_it() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    await account.reserve(1_000)
    assert account.reserved == 100


async def test_an_answer_larger_than_everything_is_kept_and_then_waited_for() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    await first.reserve(10)
    first.settle(250)
    waiting = await asking(second, 1)
    assert not waiting.done()
    assert budget.statistics().kept == 250
    first.release(151)
    await waiting


async def test_reservations_are_granted_in_the_order_of_asking() -> None:
    budget = ByteBudget(100)
    holder = budget.open()
    await holder.reserve(100)
    order: list[int] = []

    async def ask(account: Account, name: int) -> None:
        await account.reserve(10)
        order.append(name)

    tasks = [asyncio.create_task(ask(budget.open(), name)) for name in range(5)]
    await settled()
    holder.settle(0)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_small_ones_do_not_starve_a_large_one() -> None:
    budget = ByteBudget(100)
    holder, large, small = budget.open(), budget.open(), budget.open()
    await holder.reserve(50)
    first = await asking(large, 80)
    second = await asking(small, 10)
    assert not second.done()
    holder.settle(0)
    await first
    await second
    assert (large.reserved, small.reserved) == (80, 10)


async def test_what_stuck_consumers_leave_free_goes_to_the_first_in_turn_alone() -> None:
    budget = ByteBudget(100)
    stuck, large, next_one = budget.open(), budget.open(), budget.open()
    await keep(stuck, 70)
    await large.reserve(80)
    assert large.reserved == 30
    # While that call is under way it may yet bring less.
    waiting = await asking(next_one, 80)
    assert not waiting.done()
    large.settle(0)
    await waiting
    assert next_one.reserved == 30


async def test_reading_ahead_beyond_the_share_waits_and_lets_the_others_pass() -> None:
    budget = ByteBudget(100)
    greedy, modest = budget.open(), budget.open()
    await keep(greedy, 40)
    ahead = await asking(greedy, 20)
    assert not ahead.done()
    await keep(modest, 50)
    modest.release(50)
    await settled()
    assert not ahead.done()
    greedy.release(40)
    await ahead
    assert greedy.reserved == 20


async def test_a_stuck_shard_keeps_its_share_and_no_more() -> None:
    budget = ByteBudget(100)
    stuck, others = budget.open(), [budget.open() for _ in range(3)]
    while (ahead := await asking(stuck, 10)).done():
        stuck.settle(10)
    assert stuck.kept == 20
    for other in others:
        await keep(other, 25)
        assert other.kept == 25
    await give_up(ahead)


async def test_the_share_grows_when_a_reader_leaves() -> None:
    budget = ByteBudget(100)
    staying, leaving = budget.open(), budget.open()
    await keep(staying, 40)
    ahead = await asking(staying, 20)
    assert not ahead.done()
    leaving.close()
    await ahead
    leaving.close()
    assert budget.statistics().accounts == 1


async def test_a_cancelled_reservation_makes_way_and_holds_nothing() -> None:
    budget = ByteBudget(100)
    holder, first, second = budget.open(), budget.open(), budget.open()
    await holder.reserve(50)
    large = await asking(first, 80)
    small = await asking(second, 50)
    await give_up(large)
    await small
    assert first.reserved == 0
    assert budget.statistics().reserved == 100


async def test_a_reservation_cancelled_in_the_moment_of_its_grant_is_given_back() -> None:
    budget = ByteBudget(100)
    holder, waiter = budget.open(), budget.open()
    await holder.reserve(100)
    waiting = await asking(waiter, 30)
    holder.settle(0)
    assert waiter.reserved == 30
    await give_up(waiting)
    assert budget.statistics().reserved == 0


async def test_a_cancelled_read_ahead_does_not_come_back_to_life() -> None:
    budget = ByteBudget(100)
    greedy, other = budget.open(), budget.open()
    await keep(greedy, 40)
    await give_up(await asking(greedy, 20))
    greedy.release(40)
    other.close()
    assert budget.statistics().reserved == 0


async def test_releasing_more_than_is_kept_is_a_bug_that_shows() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    await keep(account, 10)
    with pytest.raises(ValueError, match="11 bytes released, only 10 kept"):
        account.release(11)


async def test_one_reservation_at_a_time() -> None:
    budget = ByteBudget(10)
    holder, account = budget.open(), budget.open()
    await holder.reserve(10)
    with pytest.raises(RuntimeError, match="one reservation at a time"):
        await holder.reserve(1)
    waiting = await asking(account, 1)
    with pytest.raises(RuntimeError, match="one reservation at a time"):
        await account.reserve(1)
    holder.settle(0)
    await waiting


def test_a_budget_without_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        ByteBudget(0)


calls = st.lists(st.tuples(st.integers(1, 150), st.integers(0, 200)), max_size=15)


@given(st.lists(calls, min_size=1, max_size=6), st.integers(0, 6), st.integers())
def test_whatever_readers_ask_for_nothing_deadlocks_and_the_sums_hold(
    plans: list[list[tuple[int, int]]], stuck_for_good: int, seed: int
) -> None:
    async def play() -> None:
        budget, rng = ByteBudget(100), random.Random(seed)
        stuck = budget.open()
        await keep(stuck, stuck_for_good * 16)

        async def read(plan: list[tuple[int, int]]) -> None:
            account = budget.open()
            unreleased: asyncio.Queue[int | None] = asyncio.Queue()

            async def consume() -> None:
                while (size := await unreleased.get()) is not None:
                    for _ in range(rng.randrange(4)):
                        await asyncio.sleep(0)
                    account.release(size)

            async with asyncio.TaskGroup() as pair:
                pair.create_task(consume())
                for expected, actual in plan:
                    await account.reserve(expected)
                    assert 0 < budget.statistics().reserved <= 100
                    await asyncio.sleep(0)
                    account.settle(actual)
                    unreleased.put_nowait(actual)
                unreleased.put_nowait(None)
            assert account.kept == account.reserved == 0
            account.close()

        async with asyncio.timeout(5), asyncio.TaskGroup() as readers:
            for plan in plans:
                readers.create_task(read(plan))
        statistics = budget.statistics()
        assert statistics.kept == stuck.kept
        assert (statistics.reserved, statistics.waiting, statistics.accounts) == (0, 0, 1)

    asyncio.run(play())


MIB = 1024 * 1024


async def test_shards_at_their_tip_do_not_wait_for_those_that_are_behind() -> None:
    budget = ByteBudget(64 * MIB)
    behind = [budget.open() for _ in range(6)]
    tips = [budget.open() for _ in range(100)]
    reading = [await asking(account, 14 * MIB) for account in behind]
    assert sum(task.done() for task in reading) == 3, "the fourth would not leave the set-aside"
    for tip in tips:
        assert tip.reserve_at_once(64 * 1024)
        tip.settle(40 * 1024)
        tip.release(40 * 1024)
    for account in behind[:3]:
        account.settle(14 * MIB)
    for tip in tips:
        assert tip.reserve_at_once(64 * 1024), "their consumers are not done, and still"
        tip.settle(0)
    for task in reading[3:]:
        task.cancel()
    await asyncio.gather(*reading[3:], return_exceptions=True)


async def test_small_ones_get_no_more_than_the_set_aside_while_a_large_one_waits() -> None:
    budget = ByteBudget(64 * MIB)
    holder, large = budget.open(), budget.open()
    tips = [budget.open() for _ in range(40)]
    await holder.reserve(40 * MIB)
    waiting = await asking(large, 30 * MIB)
    assert sum(tip.reserve_at_once(MIB) for tip in tips) == 16
    late = await asking(tips[16], MIB)
    assert not late.done()
    holder.settle(0)
    await waiting
    await late
    assert (large.reserved, tips[16].reserved) == (30 * MIB, MIB)


@given(
    sizes=st.lists(st.integers(1, 70 * MIB), min_size=1, max_size=30),
    outcomes=st.lists(st.integers(0, 20 * MIB), min_size=30, max_size=30),
)
def test_everybody_is_served_in_the_end_and_the_capacity_is_kept(
    sizes: list[int], outcomes: list[int]
) -> None:
    async def main() -> None:
        budget = ByteBudget(64 * MIB)

        async def fetch(size: int, outcome: int) -> None:
            account = budget.open()
            await account.reserve(size)
            statistics = budget.statistics()
            assert statistics.reserved <= statistics.capacity
            await asyncio.sleep(0)
            account.settle(outcome)
            await asyncio.sleep(0)
            account.release(outcome)
            account.close()

        async with asyncio.timeout(10):
            await asyncio.gather(*map(fetch, sizes, outcomes))
        statistics = budget.statistics()
        assert (statistics.reserved, statistics.kept, statistics.waiting) == (0, 0, 0)
        assert budget._reserved_small == 0

    asyncio.run(main())
