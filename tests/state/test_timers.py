"""Both stores keep timers alike: in the commit, by two clocks, and across reshards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import Fenced
from streamproc.state.timers import TimerState, hash_key
from streamproc.testing.localkinesis.routing import hash_partition_key

from .stores import SHARD, START, Kit, commit, digest, position, removal, setting, timer

CHILD = "orders/child"
ALL = ("0" * 32, "f" * 32)


async def test_a_commit_sets_replaces_and_removes_timers(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    first = [setting(timer("a", 10, "event")), setting(timer("b", 20)), setting(timer("c", 5))]
    result = await kit.store.commit(commit(START, position(1), timers=first, event_clock=3))
    assert result.timers == TimerState(10, 5, 3, 3)
    second = [setting(timer("a", 7)), removal("c"), removal("never")]
    result = await kit.store.commit(commit(position(1), position(2), timers=second))
    assert result.timers == TimerState(None, 7, 3, 2)
    assert (await kit.store.adopt(SHARD, 2, None)).timers == TimerState(None, 7, 3, 2)


async def test_a_commit_without_timers_says_nothing_of_them(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    assert (await kit.store.commit(commit(START, position(1)))).timers is None


async def test_due_timers_come_in_order_and_say_what_is_left(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    made = [
        timer("a", 30),
        timer("b", 10),
        timer("c", 20),
        timer("d", 15, "event"),
        timer("e", 1_767_225_600_123),
    ]
    await kit.store.commit(commit(START, position(1), timers=[setting(each) for each in made]))
    due, state = await kit.store.due_timers(SHARD, "wall", 25, 10)
    assert due == [made[1], made[2]]
    assert state == TimerState(15, 30, None, 5)
    due, state = await kit.store.due_timers(SHARD, "wall", 35, 2)
    assert [each.id for each in due] == ["b", "c"]
    assert state.next_wall == 30
    assert (await kit.store.due_timers(SHARD, "event", 14, 10))[0] == []
    _, state = await kit.store.due_timers(SHARD, "wall", 2_000, 10)
    assert state.next_wall == 1_767_225_600_123


async def test_a_refused_commit_sets_no_timer(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 2, START)
    await kit.store.commit(commit(START, position(1), epoch=2, digests=[digest(1)]))
    made = [setting(timer("a", 1))]
    before = await kit.dump()
    await kit.store.commit(commit(START, position(2), epoch=2, timers=made))
    await kit.store.commit(
        commit(position(1), position(2), epoch=2, digests=[digest(1)], timers=made)
    )
    with pytest.raises(Fenced):
        await kit.store.commit(commit(position(1), position(2), epoch=1, timers=made))
    assert await kit.dump() == before


async def test_shards_have_timers_of_their_own(kit: Kit) -> None:
    for shard in (SHARD, CHILD):
        await kit.store.adopt(shard, 1, START)
        made = [setting(timer("a", 10 if shard == SHARD else 20))]
        await kit.store.commit(commit(START, position(1), shard=shard, timers=made))
    assert (await kit.store.due_timers(SHARD, "wall", 99, 9))[0] == [timer("a", 10)]
    assert (await kit.store.due_timers(CHILD, "wall", 99, 9))[0] == [timer("a", 20)]


async def test_children_inherit_the_timers_that_they_cover_once(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    made = [timer(f"t{n}", n, "event" if n % 2 else "wall", key=f"key-{n}") for n in range(2_500)]
    for first in range(0, 2_500, 500):
        await kit.store.commit(
            commit(
                START,
                START,
                timers=[setting(each) for each in made[first : first + 500]],
                event_clock=77,
            )
        )
    middle = "7" + "f" * 31
    low = [each for each in made if each.hash <= middle]
    high = [each for each in made if each.hash > middle]
    assert low
    assert high
    assert await kit.store.inherit_timers(SHARD, CHILD, "0" * 32, middle) == len(low)
    assert await kit.store.inherit_timers(SHARD, CHILD, "0" * 32, middle) == 0
    assert await kit.store.inherit_timers(SHARD, "orders/sibling", "8" + "0" * 31, "f" * 32) == len(
        high
    )
    for shard, theirs in ((CHILD, low), ("orders/sibling", high), (SHARD, [])):
        adopted = await kit.store.adopt(shard, 1, START)
        assert adopted.timers.pending == len(theirs)
        assert adopted.timers.event_clock == 77
        by_wall, _ = await kit.store.due_timers(shard, "wall", 9_999, 9_999)
        by_event, _ = await kit.store.due_timers(shard, "event", 9_999, 9_999)
        assert sorted(by_wall + by_event, key=lambda t: t.at) == theirs


async def test_a_merged_child_takes_both_parents_timers_and_the_later_clock(kit: Kit) -> None:
    for shard, at in ((SHARD, 10), ("orders/other", 20)):
        await kit.store.adopt(shard, 1, START)
        made = [setting(timer(f"of {shard}", at, "event"))]
        await kit.store.commit(commit(START, START, shard=shard, timers=made, event_clock=at - 5))
    for shard in ("orders/other", SHARD):
        assert await kit.store.inherit_timers(shard, CHILD, *ALL) == 1
    assert (await kit.store.adopt(CHILD, 1, START)).timers == TimerState(10, None, 15, 2)


async def test_what_the_child_has_scheduled_meanwhile_stands(kit: Kit) -> None:
    for shard, at in ((SHARD, 10), (CHILD, 20)):
        await kit.store.adopt(shard, 1, START)
        made = [setting(timer("a", at))]
        await kit.store.commit(commit(START, START, shard=shard, timers=made))
    assert await kit.store.inherit_timers(SHARD, CHILD, *ALL) == 0
    assert (await kit.store.due_timers(CHILD, "wall", 99, 9))[0] == [timer("a", 20)]
    assert (await kit.store.adopt(SHARD, 1, None)).timers.pending == 0


async def test_a_forgotten_shard_leaves_nothing_but_timers_that_wait(kit: Kit) -> None:
    for shard in (SHARD, "orders/other"):
        await kit.store.adopt(shard, 1, START)
        made = [setting(timer("a", 10, "event"))]
        await kit.store.commit(commit(START, START, shard=shard, timers=made, event_clock=5))
    await kit.store.inherit_timers(SHARD, CHILD, *ALL)
    await kit.store.forget_shards("orders", [SHARD.partition("/")[2], "other"])
    assert (await kit.store.adopt(SHARD, 1, None)).timers == TimerState()
    assert (await kit.store.adopt("orders/other", 1, None)).timers == TimerState(10, None, 5, 1)


@given(st.text(min_size=1))
def test_the_hash_key_is_the_one_that_kinesis_routes_by(key: str) -> None:
    assert int(hash_key(key), 16) == hash_partition_key(key)
