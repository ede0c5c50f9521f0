from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.budget import Account, ByteBudget


async def settled() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_fits_is_granted_at_once_and_counted() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    assert await account.reserve(60) == 60
    account.settle(60, 45)
    statistics = budget.statistics()
    assert (statistics.held, statistics.peak, statistics.accounts) == (45, 60, 1)
    account.release(45)
    assert budget.statistics().held == 0


async def test_a_reservation_waits_until_there_is_room() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    await first.reserve(80)
    waiting = asyncio.create_task(second.reserve(30))
    await settled()
    assert not waiting.done()
    assert second.is_waiting
    assert budget.statistics().waiting == 1
    first.release(9)
    await settled()
    assert not waiting.done()
    first.release(1)
    assert await waiting == 30
    assert budget.statistics().held == 100


async def test_more_than_the_capacity_is_granted_as_all_of_it() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    assert await account.reserve(1_000) == 100


async def test_an_answer_larger_than_everything_is_kept_and_then_waited_for() -> None:
    budget = ByteBudget(100)
    first, second = budget.open(), budget.open()
    first.settle(await first.reserve(10), 250)
    assert budget.statistics().held == 250
    waiting = asyncio.create_task(second.reserve(1))
    await settled()
    assert not waiting.done()
    first.release(250)
    assert await waiting == 1


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
    holder.release(100)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_small_ones_do_not_starve_a_large_one() -> None:
    budget = ByteBudget(100)
    holder, large, small = budget.open(), budget.open(), budget.open()
    await holder.reserve(50)
    first = asyncio.create_task(large.reserve(80))
    await settled()
    second = asyncio.create_task(small.reserve(10))
    await settled()
    assert not second.done()
    holder.release(50)
    assert await first == 80
    assert await second == 10


async def test_reading_ahead_beyond_the_share_waits_and_lets_the_others_pass() -> None:
    budget = ByteBudget(100)
    greedy, modest = budget.open(), budget.open()
    await greedy.reserve(40)
    ahead = asyncio.create_task(greedy.reserve(20))
    await settled()
    assert not ahead.done()
    assert await modest.reserve(50) == 50
    modest.release(50)
    await settled()
    assert not ahead.done()
    greedy.release(40)
    assert await ahead == 20


async def test_a_stuck_shard_never_holds_up_the_others_for_good() -> None:
    budget = ByteBudget(100)
    stuck, others = budget.open(), [budget.open() for _ in range(3)]
    held = 0
    while True:
        asking = asyncio.create_task(stuck.reserve(10))
        await settled()
        if not asking.done():
            break
        held += 10
    assert held == 20
    for other in others:
        assert await other.reserve(20) == 20
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_the_share_grows_when_a_reader_leaves() -> None:
    budget = ByteBudget(100)
    staying, leaving = budget.open(), budget.open()
    await staying.reserve(40)
    ahead = asyncio.create_task(staying.reserve(20))
    await settled()
    assert not ahead.done()
    leaving.close()
    assert await ahead == 20
    leaving.close()
    assert budget.statistics().accounts == 1


async def test_a_cancelled_reservation_makes_way_and_holds_nothing() -> None:
    budget = ByteBudget(100)
    holder, first, second = budget.open(), budget.open(), budget.open()
    await holder.reserve(50)
    large = asyncio.create_task(first.reserve(80))
    await settled()
    small = asyncio.create_task(second.reserve(50))
    await settled()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    assert await small == 50
    assert first.held == 0
    assert budget.statistics().held == 100


async def test_a_reservation_cancelled_in_the_moment_of_its_grant_is_given_back() -> None:
    budget = ByteBudget(100)
    holder, waiter = budget.open(), budget.open()
    await holder.reserve(100)
    asking = asyncio.create_task(waiter.reserve(30))
    await settled()
    holder.release(100)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert waiter.held == 0
    assert budget.statistics().held == 0


async def test_a_cancelled_read_ahead_does_not_come_back_to_life() -> None:
    budget = ByteBudget(100)
    greedy, other = budget.open(), budget.open()
    await greedy.reserve(40)
    ahead = asyncio.create_task(greedy.reserve(20))
    await settled()
    ahead.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ahead
    greedy.release(40)
    other.close()
    assert budget.statistics().held == 0


async def test_releasing_more_than_is_held_is_a_bug_that_shows() -> None:
    budget = ByteBudget(100)
    account = budget.open()
    await account.reserve(10)
    with pytest.raises(ValueError, match="11 bytes released, only 10 held"):
        account.release(11)


async def test_one_reservation_at_a_time() -> None:
    budget = ByteBudget(10)
    holder, account = budget.open(), budget.open()
    await holder.reserve(10)
    waiting = asyncio.create_task(account.reserve(1))
    await settled()
    with pytest.raises(RuntimeError, match="one reservation at a time"):
        await account.reserve(1)
    holder.release(10)
    await waiting


def test_a_budget_without_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        ByteBudget(0)


steps = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 150), st.integers(0, 200)), max_size=60
)


@given(steps)
def test_whatever_the_readers_do_nothing_deadlocks_and_the_sums_hold(
    plan: list[tuple[int, int, int]],
) -> None:
    async def play() -> None:
        budget = ByteBudget(100)
        accounts = [budget.open() for _ in range(5)]

        async def reader(index: int) -> None:
            account, kept = accounts[index], 0
            for who, expected, actual in plan:
                if who != index:
                    continue
                # A consumer that has its hands full releases before the reader reads ahead.
                asking = asyncio.create_task(account.reserve(expected))
                await asyncio.sleep(0)
                if not asking.done() and kept:
                    account.release(kept)
                    kept = 0
                granted = await asking
                account.settle(granted, actual)
                kept += actual
                assert account.held == kept
                assert budget.statistics().held == sum(each.held for each in accounts)
            if kept:
                account.release(kept)

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            for index in range(5):
                tasks.create_task(reader(index))
        assert budget.statistics().held == 0
        assert budget.statistics().waiting == 0

    asyncio.run(play())
