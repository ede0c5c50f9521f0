"""What every state store does with counters: always taken, never lost, told apart by version."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from streamproc.errors import StateStoreError
from streamproc.redis_client import connect_redis
from streamproc.state.counters import EXACT_MEMBERS, CounterCell
from streamproc.state.store import CommitResult

from .stores import (
    SHARD,
    START,
    Kit,
    RedisKit,
    adopted,
    cell,
    commit,
    counter,
    counting,
    digest,
    emitted,
    entry,
    position,
)


class Chain:
    """Commits counters one batch after another, as one shard does."""

    def __init__(self, kit: Kit, shard: str = SHARD) -> None:
        self.kit = kit
        self.shard = shard
        self.at = 0

    async def commit(self, *cells: CounterCell, **changes: Any) -> CommitResult:
        start = position(self.at) if self.at else START
        self.at += 1
        result = await self.kit.store.commit(
            commit(start, position(self.at), shard=self.shard, counters=counting(*cells), **changes)
        )
        for each in cells:
            each.reset()
        return result


async def test_everything_that_is_added_is_there_with_the_rest_of_the_commit(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    view = c.view()
    view.add("n", 2)
    view.add("n", 3)
    view.add("money", 0.1)
    view.add("day", 1, bucket=7)
    view.add("day", 1, bucket=-7)
    view.min("low", 5)
    view.max("high", 5.5)
    view.distinct("who", "a")
    view.distinct("who", "a")
    view.distinct("who", "b")
    assert (await chain.commit(c)).outcome == "OK"
    fields = await kit.counted(c.key)
    assert fields.pop("v") == c.stored.version
    assert fields == {
        "n:n": 5,
        "n:money": 0.1,
        "b:7:day": 1,
        "b:-7:day": 1,
        "min:low": 5,
        "max:high": 5.5,
        "d:who": 2,
    }


async def test_each_commit_has_a_version_of_its_own_and_the_copy_follows(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    versions = []
    for _ in range(3):
        c.view().add("n")
        await chain.commit(c)
        versions.append((await kit.counted(c.key))["v"])
        assert c.stored.version == versions[-1]
        assert c.view().value("n") == len(versions)
    assert len(set(versions)) == 3


async def test_two_shards_never_conflict_and_lose_nothing(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.adopt("orders/other", 1, START)
    chains = [Chain(kit), Chain(kit, "orders/other")]
    mine, theirs = counter(kit, "k"), counter(kit, "k")
    for _ in range(3):
        for c, own in zip((mine, theirs), chains, strict=True):
            c.view().add("n", 10)
            c.view().distinct("who", own.shard)
            c.view().max("high", own.at)
            assert (await own.commit(c)).outcome == "OK"
    fields = await kit.counted(mine.key)
    assert (fields["n:n"], fields["d:who"], fields["max:high"]) == (60, 2, 2)
    # Neither copy claims to know what the other did, until the next check brings it.
    assert theirs.view().value("n") < 60
    await kit.store.check([], [], [mine, theirs])
    assert (mine.view().value("n"), theirs.view().value("n")) == (60, 60)


async def test_a_check_leaves_a_current_copy_alone_and_renews_an_old_one(kit: Kit) -> None:
    chain, c, other = Chain(await adopted(kit)), counter(kit, "k"), counter(kit, "k")
    c.view().add("n", 1)
    await chain.commit(c)
    c.stored.sums["n"] = 77
    await kit.store.check([], [], [c, other])
    assert (c.view().value("n"), other.view().value("n")) == (77, 1)
    other.view().add("n", 1)
    await chain.commit(other)
    await kit.store.check([], [], [c])
    assert c.view().value("n") == 2


async def test_a_refused_commit_counts_nothing(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    c.view().add("n", 1)
    await chain.commit(c, digests=[digest(1)])
    before = await kit.dump()
    c.view().add("n", 1)
    assert (await chain.commit(c, digests=[digest(1)])).outcome == "DUPLICATE"
    assert await kit.dump() == before
    assert c.view().value("n") == 1


async def test_forgetting_drops_known_buckets_and_later_additions_begin_anew(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    for bucket in range(5):
        c.view().add("day", 1, bucket=bucket)
        c.view().add("other", 1, bucket=bucket)
    await chain.commit(c)
    view = c.view()
    view.add("day", 5, bucket=1)
    view.forget("day", before=3)
    view.add("day", 7, bucket=2)
    assert view.buckets("day") == {2: 7, 3: 1, 4: 1}
    await chain.commit(c)
    assert c.view().buckets("day") == {2: 7, 3: 1, 4: 1}
    fields = await kit.counted(c.key)
    assert {name: n for name, n in fields.items() if name.endswith("day")} == {
        "b:2:day": 7,
        "b:3:day": 1,
        "b:4:day": 1,
    }
    assert len(c.view().buckets("other")) == 5


async def test_whole_and_fractional_numbers_mix_as_in_python(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    total: float = 0
    for number in (2**52, 1, 0.1, 0.2, -3, 1e22, 5.0, -1e22, 1 / 3):
        c.view().add("n", number)
        await chain.commit(c)
        total += number
        stored = (await kit.counted(c.key))["n:n"]
        assert (stored, type(stored)) == (total, type(total))
        assert c.view().value("n") == total
    c.view().add("big", 2**53)
    await chain.commit(c)
    assert (await kit.counted(c.key))["n:big"] == 2**53


@pytest.mark.parametrize("seed", range(4))
async def test_a_total_is_the_sum_of_its_buckets_whatever_came_before(kit: Kit, seed: int) -> None:
    chain, c, rng = Chain(await adopted(kit)), counter(kit, "k"), random.Random(seed)
    numbers = (1, -2, 2**50) if seed % 2 else (1, 0.5, -3)  # halves add up exactly
    for _ in range(12):
        view = c.view()
        for _ in range(rng.randrange(4)):
            if rng.random() < 0.15:
                view.forget("n", before=rng.randrange(12))
            else:
                view.add("n", rng.choice(numbers), bucket=rng.randrange(20))
            for _ in range(3):
                first, last = rng.randrange(-1, 21), rng.randrange(-1, 21)
                held = view.buckets("n").items()
                expected = sum(number for at, number in held if first <= at <= last)
                assert view.total("n", first=first, last=last) == expected
                assert view.totals("n", firsts=(21, first), last=last) == [0, expected]
                assert ("n" in view) >= bool(held)
        if rng.random() < 0.7:
            await chain.commit(c)
        else:
            c.reset()
    assert view.total("unknown", first=-100, last=100) == 0
    assert "unknown" not in view


async def test_more_buckets_than_lua_unpacks_at_once_are_added_up(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    for _ in range(2):
        for bucket in range(9_000):
            c.view().add("n", bucket, bucket=bucket)
        c.view().add("sum", 1)
        assert (await chain.commit(c)).outcome == "OK"
    fresh = counter(kit, "k")
    await kit.store.check([], [], [fresh])
    assert fresh.view().buckets("n") == {bucket: 2 * bucket for bucket in range(9_000)}
    assert fresh.view().value("sum") == 2


async def test_sums_that_no_double_holds_are_exact_all_the_same(kit: Kit) -> None:
    chain, copies = Chain(await adopted(kit)), [counter(kit, "k") for _ in range(4)]
    for number, copy in enumerate(copies):  # none of which knows of the others
        copy.view().add("n", 2**53 - number)
        await chain.commit(copy)
    assert (await kit.counted(copies[0].key))["n:n"] == 4 * 2**53 - 6


async def test_many_members_are_estimated(kit: Kit) -> None:
    chain, c = Chain(await adopted(kit)), counter(kit, "k")
    for number in range(EXACT_MEMBERS):
        c.view().distinct("who", str(number))
    await chain.commit(c)
    assert (await kit.counted(c.key))["d:who"] == c.view().count("who") == EXACT_MEMBERS
    for number in range(9_000):  # more than Lua can unpack at once
        c.view().distinct("who", str(number))
    await chain.commit(c)
    fields = await kit.counted(c.key)
    assert "d:who" not in fields
    assert fields["h:who"] == pytest.approx(9_000, rel=0.04)
    assert c.view().count("who") == fields["h:who"]
    c.view().distinct("who", "one more")
    await chain.commit(c)
    fresh = counter(kit, "k")
    await kit.store.check([], [], [fresh])
    assert fresh.view().count("who") == c.view().count("who")


async def test_counters_live_for_their_ttl_from_the_last_change(kit: Kit) -> None:
    chain, c, kept = Chain(await adopted(kit)), counter(kit, "k", ttl=60.0), counter(kit, "kept")
    for each in (c, kept):
        each.view().add("n", 1)
    await chain.commit(c, kept)
    assert await kit.ttl(kept.key) is None
    assert await kit.ttl(c.key) == pytest.approx(60, abs=30)
    await kit.expire(c.key)
    c.view().add("n", 5)
    await chain.commit(c)
    fields = await kit.counted(c.key)
    assert fields["n:n"] == 5
    assert c.view().value("n") == 1, "the copy is of another life of the key"
    await kit.store.check([], [], [c])
    assert c.view().value("n") == 5
    await kit.expire(c.key)
    await kit.store.check([], [], [c])
    assert c.view().value("n") == 0


async def test_states_and_counters_of_one_commit_do_not_get_mixed_up(kit: Kit) -> None:
    chain = Chain(await adopted(kit))
    states = [cell(kit, name) for name in "ab"]
    counters = [counter(kit, name) for name in "abc"]
    for number, each in enumerate(counters):
        each.view().add("n", number + 1)
        if number != 1:
            each.view().distinct("who", "x")
    both = [(states[0], b'{"n":1}'), (states[1], None)]
    await chain.commit(*counters, cells=both, outbox=[entry("e")], dead_letters=[["reason", "r"]])
    assert [(await kit.counted(each.key))["n:n"] for each in counters] == [1, 2, 3]
    assert await kit.outbox() == [emitted("e")]
    assert await kit.dead_letters() == [{"reason": b"r"}]
    fresh_states = [cell(kit, name) for name in "ab"]
    fresh = [counter(kit, name) for name in "cab"]
    await kit.store.check([], fresh_states, fresh)
    assert [each.raw for each in fresh_states] == [b'{"n":1}', None]
    assert [each.view().value("n") for each in fresh] == [3, 1, 2]


@pytest.fixture
async def redis_kit(redis_url: str) -> Any:
    kit = RedisKit(connect_redis(redis_url, timeout=5.0))
    yield kit
    await kit.store.aclose()


SPOILT: list[tuple[str, Any]] = [
    ("another type", lambda c, key, sketch: c.set(key, "x")),
    ("no counter", lambda c, key, sketch: c.hset(key, "v", "x")),
    ("no number", lambda c, key, sketch: c.hset(key, "n:n", "x")),
    ("too large", lambda c, key, sketch: c.hset(key, "n:n", 2**63 - 1)),
    ("infinite", lambda c, key, sketch: c.hset(key, "n:n", "1e309")),
    ("no least", lambda c, key, sketch: c.hset(key, "min:low", "x")),
    ("sketch of another type", lambda c, key, sketch: c.sadd(sketch, "x")),
    ("no sketch", lambda c, key, sketch: c.set(sketch, "x")),
    ("outbox of another type", lambda c, key, sketch: c.set("sp:{g:0}:outbox", "x")),
]


@pytest.mark.parametrize("spoil", [how for _, how in SPOILT], ids=[name for name, _ in SPOILT])
async def test_what_cannot_be_counted_on_stops_the_commit_before_its_first_write(
    redis_kit: RedisKit, spoil: Any
) -> None:
    chain, c = Chain(await adopted(redis_kit)), counter(redis_kit, "k")
    view = c.view()
    view.add("n", 1)
    view.min("low", 1)
    view.distinct("who", "a")
    await spoil(redis_kit.client, c.key, f"{c.sketch_prefix}who")
    before = await redis_kit.dump()
    with pytest.raises(StateStoreError):
        await chain.commit(
            c, digests=[digest(1)], cells=[(cell(redis_kit, "s"), b"{}")], outbox=[entry("e")]
        )
    assert await redis_kit.dump() == before


async def test_a_foreign_field_is_named_when_it_is_loaded(redis_kit: RedisKit) -> None:
    chain, c = Chain(await adopted(redis_kit)), counter(redis_kit, "k")
    c.view().add("n", 1)
    await chain.commit(c)
    await redis_kit.client.hset(c.key, "b:monday:n", "1")  # type: ignore[misc]
    with pytest.raises(StateStoreError, match=r"sp:\{g:0\}:c:p:k.*b:monday:n"):
        await redis_kit.store.check([], [], [counter(redis_kit, "k")])


async def test_a_sketch_lives_as_long_as_its_counter(redis_kit: RedisKit) -> None:
    chain, c = Chain(await adopted(redis_kit)), counter(redis_kit, "k", ttl=1_000.0)
    for number in range(200):
        c.view().distinct("who", str(number))
    await chain.commit(c)
    sketch = f"{c.sketch_prefix}who"
    await redis_kit.client.pexpire(sketch, 10_000)
    c.view().add("n", 1)
    await chain.commit(c)
    assert await redis_kit.client.pttl(sketch) > 900_000
    assert c.view().count("who") == pytest.approx(200, abs=10)


async def test_a_new_counter_does_not_inherit_an_old_sketch(redis_kit: RedisKit) -> None:
    chain, c = Chain(await adopted(redis_kit)), counter(redis_kit, "k")
    for number in range(1_000):
        c.view().distinct("who", str(number))
    await chain.commit(c)
    await redis_kit.client.delete(c.key)
    fresh = counter(redis_kit, "k")
    for number in range(5_000, 5_150):
        fresh.view().distinct("who", str(number))
    await chain.commit(fresh)
    assert fresh.view().count("who") == pytest.approx(150, abs=8)


async def test_many_owners_at_once_add_up_exactly(redis_kit: RedisKit) -> None:
    """Eight owners, each with a copy of its own that is out of date most of the time."""

    async def own(shard: str) -> None:
        await redis_kit.store.adopt(shard, 1, START)
        chain, c = Chain(redis_kit, shard), counter(redis_kit, "k")
        for number in range(25):
            if number % 5 == 0:
                await redis_kit.store.check([], [], [c])
            c.view().add("n", 1)
            c.view().add("day", 2, bucket=number % 3)
            c.view().distinct("who", f"{shard}-{number % 4}")
            assert (await chain.commit(c)).outcome == "OK"

    await asyncio.gather(*[own(f"orders/{number}") for number in range(8)])
    fields = await redis_kit.counted(counter(redis_kit, "k").key)
    assert fields["n:n"] == 200
    assert sum(n for name, n in fields.items() if name.startswith("b:")) == 400
    assert fields["d:who"] == 32
