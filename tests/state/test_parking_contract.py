"""What both stores keep of parked keys: versions, lists, and what a commit minds."""

from __future__ import annotations

import pytest

from streamproc.aside import Aside
from streamproc.state.parking import Parked, Queue, Redriven
from streamproc.state.store import CommitResult

from .stores import SHARD, START, Kit, RedisKit, adopted, commit, digest, entry, position

# Any text may be a partition key; some look like other keys.
KEYS = ["a", "parked:a", "{x}", "é\u2028", "version"]


async def now_parked(kit: Kit) -> Parked:
    return (await kit.store.check([], [])).parked


async def park(kit: Kit, number: int, **records: list[str]) -> CommitResult:
    """Commit from the position before to this one, and park records on the way."""
    start = START if number == 1 else position(number - 1)
    return await kit.store.commit(
        commit(start, position(number), parked=await now_parked(kit), park=records)
    )


async def want(kit: Kit, key: str) -> None:
    if isinstance(kit, RedisKit):
        await Aside(kit.client, kit.store.keys).want(key)
    else:
        kit.store.want(key)  # type: ignore[attr-defined]


async def drop(kit: Kit, key: str) -> None:
    if isinstance(kit, RedisKit):
        assert await Aside(kit.client, kit.store.keys).drop(key) > 0
    else:
        await kit.store.drop(key)  # type: ignore[attr-defined]


async def test_nothing_is_parked_at_first(kit: Kit) -> None:
    await adopted(kit)
    assert (await now_parked(kit)).keys == frozenset()
    assert await kit.store.queue("a", 10) == Queue(0, [])
    wanted = await kit.store.wanted(10)
    assert (wanted.keys, wanted.parked) == ([], 0)


async def test_records_are_parked_in_order_and_the_key_is_known_from_then_on(kit: Kit) -> None:
    await adopted(kit)
    for number, key in enumerate(KEYS, 1):
        assert (await park(kit, number, **{key: [f"{key}1", f"{key}2"]})).outcome == "OK"
    assert (await park(kit, len(KEYS) + 1, a=["a3"])).outcome == "OK"
    assert (await now_parked(kit)).keys == frozenset(KEYS)
    assert await kit.store.queue("a", 10) == Queue(3, [b"a1", b"a2", b"a3"])
    assert await kit.store.queue("{x}", 1) == Queue(2, [b"{x}1"])
    assert (await kit.store.wanted(10)).parked == len(KEYS)


async def test_many_records_are_parked_in_one_commit(kit: Kit) -> None:
    await adopted(kit)
    records = [str(n) for n in range(10_000)]
    await park(kit, 1, a=records)
    assert await kit.store.queue("a", 20_000) == Queue(10_000, [r.encode() for r in records])


async def test_a_commit_that_relies_on_what_is_parked_no_more_is_refused_whole(kit: Kit) -> None:
    await adopted(kit)
    before = await now_parked(kit)
    await park(kit, 1, a=["a1"])
    dump = await kit.dump()
    refused = await kit.store.commit(
        commit(position(1), position(2), parked=before, digests=[digest(1)], park={"b": ["b1"]})
    )
    assert refused.outcome == "PARKING"
    assert refused.parked is not None
    assert refused.parked.keys == {"a"}
    assert await kit.dump() == dump
    again = commit(position(1), position(2), parked=refused.parked, park={"b": ["b1"]})
    assert (await kit.store.commit(again)).outcome == "OK"
    assert (await now_parked(kit)).keys == {"a", "b"}


async def test_a_commit_without_events_minds_nothing(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1"])
    assert (await kit.store.commit(commit(position(1), position(2)))).outcome == "OK"


async def test_more_under_a_parked_key_changes_nothing_that_others_rely_on(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1"])
    before = await now_parked(kit)
    await park(kit, 2, a=["a2"])
    relying = commit(position(2), position(3), parked=before)
    assert (await kit.store.commit(relying)).outcome == "OK"


async def redrive(kit: Kit, key: str, done: int, length: int, head: str = "") -> CommitResult:
    return await kit.store.commit(
        commit(
            position(1), position(1),
            parked=await now_parked(kit), redriven=Redriven(key, done, length, head),
        )
    )  # fmt: skip


async def test_what_is_done_with_leaves_the_list_and_the_position_stays(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1", "a2", "a3"], b=["b1"])
    await want(kit, "a")
    assert (await redrive(kit, "a", 1, 3)).outcome == "OK"
    assert await kit.store.queue("a", 10) == Queue(2, [b"a2", b"a3"])
    assert (await kit.store.wanted(10)).keys == ["a"]
    assert (await kit.store.adopt(SHARD, 1, None)).position == position(1)
    assert (await redrive(kit, "a", 2, 2)).outcome == "OK"
    assert await kit.store.queue("a", 10) == Queue(0, [])
    assert (await now_parked(kit)).keys == {"b"}
    assert (await kit.store.wanted(10)).keys == []


async def test_one_that_failed_again_is_the_head_with_what_is_known_now(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1", "a2", "a3"])
    await want(kit, "a")
    assert (await redrive(kit, "a", 1, 3, head="a2 again")).outcome == "OK"
    assert await kit.store.queue("a", 10) == Queue(2, [b"a2 again", b"a3"])
    assert (await kit.store.wanted(10)).keys == []
    assert (await now_parked(kit)).keys == {"a"}


async def test_a_list_of_another_length_refuses_a_redrive(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1", "a2", "a3"])
    await redrive(kit, "a", 2, 3)
    dump = await kit.dump()
    refused = await redrive(kit, "a", 2, 3)
    assert (refused.outcome, refused.waiting) == ("PARKING", 1)
    assert await kit.dump() == dump


async def test_a_dropped_key_is_parked_no_more(kit: Kit) -> None:
    await adopted(kit)
    await park(kit, 1, a=["a1", "a2"], b=["b1"])
    await want(kit, "a")
    before = await now_parked(kit)
    await drop(kit, "a")
    assert await kit.store.queue("a", 10) == Queue(0, [])
    assert (await kit.store.wanted(10)).keys == []
    relying = await kit.store.commit(commit(position(1), position(2), parked=before))
    assert relying.outcome == "PARKING"
    assert (await now_parked(kit)).keys == {"b"}


async def test_a_key_that_nobody_parked_can_be_taken_off_the_wanted_ones(kit: Kit) -> None:
    await adopted(kit)
    await want(kit, "a")
    await want(kit, "b")
    assert sorted((await kit.store.wanted(10)).keys) == ["a", "b"]
    assert len((await kit.store.wanted(1)).keys) == 1
    await kit.store.forget_wanted("a")
    assert (await kit.store.wanted(10)).keys == ["b"]


async def test_a_check_counts_the_outbox(kit: Kit) -> None:
    await adopted(kit)
    assert (await kit.store.check([], [])).outbox == 0
    await kit.store.commit(commit(START, position(1), outbox=[entry("1"), entry("2")]))
    assert (await kit.store.check([digest(1)], [])).outbox == 2
    assert await kit.store.outbox_size() == 2


async def test_a_server_that_went_back_in_time_is_not_taken_for_the_one_it_was(kit: Kit) -> None:
    """Versions are random: as many changes later, it is still another state."""
    if not isinstance(kit, RedisKit):
        pytest.skip("the store in memory does not go back")
    await adopted(kit)
    await park(kit, 1, a=["a1"])
    known = await now_parked(kit)
    await kit.client.flushall()
    other = RedisKit(kit.client)
    await adopted(other)
    await park(other, 1, b=["b1"])
    assert (await now_parked(kit)).keys == {"b"}
    relying = await kit.store.commit(commit(position(1), position(2), parked=known))
    assert relying.outcome == "PARKING"
