"""The DynamoDB store when calls fail: each outcome is what the row says, or a LeaseStoreError."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamproc.errors import LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore, checkpointed, renewed, taken
from streamproc.position import TRIM_HORIZON, Position
from streamproc_checkpoints.dynamodb import open_store
from streamproc_checkpoints.dynamodb_calls import ATTEMPTS

from .faulty_proxy import FAULTS, Fault, FaultyProxy

LEASE = Lease(key="shardId-000000000000", checkpoint=TRIM_HORIZON)
MINE = taken(LEASE, "me")


@pytest.fixture
async def proxy(moto: str) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(moto) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultyProxy, request: pytest.FixtureRequest) -> AsyncIterator[LeaseStore]:
    options = {"endpoint_url": proxy.url, "region": "us-east-1", "timeout": 1.5}
    table = "".join(c if c.isalnum() else "-" for c in request.node.name)
    store = await open_store(table, options)
    await store.create(MINE)
    yield store
    await store.aclose()


@pytest.mark.parametrize("fault", FAULTS)
class TestOneFault:
    """One call fails once: the store tries again, and nobody notices."""

    async def test_of_a_list(self, proxy: FaultyProxy, store: LeaseStore, fault: Fault) -> None:
        proxy.faults = [fault]
        assert await store.list() == [MINE]

    async def test_of_a_create(self, proxy: FaultyProxy, store: LeaseStore, fault: Fault) -> None:
        other = Lease(key="other", checkpoint=TRIM_HORIZON)
        proxy.faults = [fault]
        assert await store.create(other)
        assert other in await store.list()

    async def test_of_a_create_that_comes_too_late(
        self, proxy: FaultyProxy, store: LeaseStore, fault: Fault
    ) -> None:
        proxy.faults = [fault]
        assert not await store.create(LEASE)
        assert await store.list() == [MINE]

    async def test_of_a_replace(self, proxy: FaultyProxy, store: LeaseStore, fault: Fault) -> None:
        proxy.faults = [fault]
        wanted = checkpointed(MINE, Position("7", 3), "redis-1")
        assert await store.replace(MINE, wanted) == wanted
        assert await store.list() == [wanted]

    async def test_of_a_replace_that_comes_too_late(
        self, proxy: FaultyProxy, store: LeaseStore, fault: Fault
    ) -> None:
        theirs = taken(MINE, "other")
        await store.replace(MINE, theirs)
        proxy.faults = [fault]
        assert await store.replace(MINE, renewed(MINE)) == theirs
        assert await store.list() == [theirs]

    async def test_of_a_delete(self, proxy: FaultyProxy, store: LeaseStore, fault: Fault) -> None:
        proxy.faults = [fault]
        assert await store.delete(MINE)
        assert await store.list() == []


async def test_a_write_whose_answer_was_lost_and_that_was_overtaken_has_lost(
    proxy: FaultyProxy, store: LeaseStore
) -> None:
    """My renewal landed, its answer did not, and before my second try another took the lease."""
    mine = renewed(MINE)
    theirs = taken(mine, "other")
    proxy.faults = ["lost"]

    async def overtake() -> None:
        proxy.after_lost = None
        assert await store.replace(mine, theirs) == theirs

    proxy.after_lost = overtake
    assert await store.replace(MINE, mine) == theirs


async def test_a_take_by_another_with_the_same_counter_is_no_success(
    proxy: FaultyProxy, store: LeaseStore
) -> None:
    """My renewal did not land: the row has the counter I wanted, by another's hand."""
    theirs = taken(MINE, "other")
    await store.replace(MINE, theirs)
    proxy.faults = ["throttle"]
    assert await store.replace(MINE, renewed(MINE)) == theirs


@pytest.mark.parametrize("fault", ["throttle", "500", "html", "refused", "hang"])
async def test_a_server_that_does_not_serve_is_given_up(
    proxy: FaultyProxy, store: LeaseStore, fault: Fault
) -> None:
    proxy.requests.clear()
    proxy.faults = [fault] * ATTEMPTS
    with pytest.raises(LeaseStoreError, match=r"update_item, table .* at http://127\.0\.0\.1"):
        await store.replace(MINE, renewed(MINE))
    assert proxy.requests == ["UpdateItem"] * ATTEMPTS
    assert await store.list() == [MINE]


async def test_a_write_whose_answers_are_all_lost_fails_and_stands(
    proxy: FaultyProxy, store: LeaseStore
) -> None:
    proxy.faults = ["lost"] * ATTEMPTS
    with pytest.raises(LeaseStoreError):
        await store.replace(MINE, renewed(MINE))
    assert await store.list() == [renewed(MINE)]
    # As the coordinator goes on: the next write is answered with the row, which it knows.
    assert await store.replace(MINE, renewed(MINE)) == renewed(MINE)


async def test_a_refusal_is_not_tried_again(proxy: FaultyProxy, store: LeaseStore) -> None:
    await store.replace(MINE, renewed(MINE))
    proxy.requests.clear()
    assert await store.replace(MINE, renewed(MINE)) == renewed(MINE)
    assert proxy.requests == ["UpdateItem"]
