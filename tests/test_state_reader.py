"""What a group has stored, read from outside: states, counters, every key once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from streamproc import (
    ConfigError,
    Context,
    Processor,
    StateReader,
    StreamprocError,
    on,
)
from streamproc.errors import StateStoreError
from streamproc.redis_client import connect_redis
from streamproc.state.keys import Keys
from streamproc.state.partitions import claim_partitions
from streamproc.testing import EmbeddedCluster
from tests.shelves import GROUP, Shelf, Shelves, Sold, sell


class NewShelf(msgspec.Struct):
    pieces: int = 0


class NewShelves(Processor[NewShelf]):
    name = "shelves"
    state_version = 2
    state_upgrades = {1: lambda old: {"pieces": old["sold"]}}

    @on(Sold, key=lambda e: (e.sku, e.place))
    def sold(self, event: Sold, ctx: Context[NewShelf]) -> None:
        ctx.state.pieces += event.amount


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[StateReader]:
    async with StateReader(redis_url, GROUP) as reader:
        yield reader


async def test_a_state_is_read_by_its_key(redis_url: str, reader: StateReader) -> None:
    await sell(redis_url, Sold("1", "shoe", "berlin", 3), Sold("2", "a|b", "x%y", 2))
    stored = await reader.get("shelves", ("shoe", "berlin"))
    assert stored is not None
    assert (stored.key, stored.value, stored.schema) == (("shoe", "berlin"), {"sold": 3}, 1)
    assert stored.version > 0
    odd = await reader.get("shelves", ("a|b", "x%y"))
    assert odd is not None
    assert (odd.key, odd.value) == (("a|b", "x%y"), {"sold": 2})
    assert await reader.get("shelves", ("shoe", "paris")) is None
    assert await reader.get("others", ("shoe", "berlin")) is None


async def test_a_state_is_read_as_its_processor_sees_it(
    redis_url: str, reader: StateReader
) -> None:
    await sell(redis_url, Sold("1", "shoe", "berlin", 3))
    stored = await reader.get("shelves", ("shoe", "berlin"))
    assert stored is not None
    assert stored.as_state_of(Shelves) == Shelf(3)
    assert stored.as_state_of(NewShelves()) == NewShelf(3)
    newer = msgspec.structs.replace(stored, schema=3)
    with pytest.raises(StreamprocError, match=r"shoe\|berlin has version 3"):
        newer.as_state_of(NewShelves)


async def test_counters_are_read_by_their_key(redis_url: str, reader: StateReader) -> None:
    await sell(redis_url, Sold("1", "shoe", "berlin", 3), Sold("2", "shoe", "paris", 2))
    stored = await reader.get_counters("shelves", ("shoe", "all"))
    assert stored is not None
    assert stored.key == ("shoe", "all")
    assert stored.values.values == {"sold": 5}
    assert stored.values.buckets == {"by-day": {7: 5}}
    assert stored.values.distinct == {"places": 2}
    assert await reader.get_counters("shelves", ("hat", "all")) is None


async def test_a_scan_yields_every_key_once_and_only_what_matches(
    redis_url: str, reader: StateReader
) -> None:
    sales = [Sold(str(n), f"sku-{n % 700}", "berlin", n) for n in range(1_000)]
    await sell(redis_url, *sales, Sold("odd", "[x]*", "?"))
    found = [stored async for stored in reader.scan("shelves")]
    keys = [stored.key for stored in found]
    assert len(keys) == len(set(keys)) == 701
    assert sum(stored.value["sold"] for stored in found) == sum(range(1_000)) + 1
    matching = [stored.key async for stored in reader.scan("shelves", match="sku-69?|*")]
    assert sorted(matching) == [(f"sku-{n}", "berlin") for n in range(690, 700)]
    counters = {each.key: each.values.values async for each in reader.scan_counters("shelves")}
    assert len(counters) == 701
    assert counters["[x]*", "all"] == {"sold": 1}
    assert [each async for each in reader.scan("shelve?")] == []


async def test_keys_that_redis_returns_twice_are_yielded_once(
    redis_url: str, reader: StateReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SCAN does while the table is resized: within an answer, and in a later one."""
    await sell(redis_url, *[Sold(str(n), f"sku-{n}", "berlin") for n in range(10)])
    scan, answers = reader._client.scan, 0

    async def repeating(*args: Any, **options: Any) -> Any:
        nonlocal answers
        answers += 1
        _, found = await scan(0, **options)
        return 0 if answers == 2 else 7, [*found, *found]

    monkeypatch.setattr(reader._client, "scan", repeating)
    keys = [stored.key async for stored in reader.scan("shelves")]
    assert answers == 2
    assert len(keys) == len(set(keys)) == 10


async def test_a_group_spread_over_a_cluster_is_read_whole(
    embedded_cluster: EmbeddedCluster,
) -> None:
    sales = [Sold(str(n), f"sku-{n}", "berlin", n) for n in range(100)]
    await sell(embedded_cluster.url, *sales, partitions=5)
    async with StateReader(embedded_cluster.url, GROUP) as reader:
        found = {stored.key[0]: stored.value["sold"] async for stored in reader.scan("shelves")}
        assert found == {f"sku-{n}": n for n in range(100)}
        for n in (0, 17, 99):
            stored = await reader.get("shelves", (f"sku-{n}", "berlin"))
            assert stored is not None
            assert stored.value == {"sold": n}
            assert await reader.get_counters("shelves", (f"sku-{n}", "all")) is not None


async def test_a_group_that_begins_later_is_found_then(redis_url: str, reader: StateReader) -> None:
    assert await reader.get("shelves", ("shoe", "berlin")) is None
    assert [each async for each in reader.scan("shelves")] == []
    await sell(redis_url, Sold("1", "shoe", "berlin"), partitions=3)
    assert await reader.get("shelves", ("shoe", "berlin")) is not None


async def test_a_redis_that_is_away_is_told() -> None:
    async with StateReader("redis://127.0.0.1:1/0", GROUP, timeout=1.0) as reader:
        with pytest.raises(StateStoreError, match=r"127\.0\.0\.1:1"):
            await reader.get("shelves", "x")
    with pytest.raises(ConfigError, match="group"):
        StateReader("redis://127.0.0.1:1/0", "{bad}")


async def test_what_waits_in_the_outbox_is_read_in_order(
    redis_url: str, reader: StateReader
) -> None:
    client = connect_redis(redis_url, 5.0)
    await claim_partitions(client, GROUP, 2)
    keys = [Keys(GROUP, number) for number in range(2)]
    for number in range(1_203):
        entry = {"id": number, "type": "T", "key": "k", "cause": "c", "data": b"{}"}
        await client.xadd(keys[number % 2].outbox, entry)  # type: ignore[arg-type]
    await client.aclose()
    events = [int(event.id) async for event in reader.outbox()]
    assert events == [*range(0, 1_203, 2), *range(1, 1_203, 2)]
