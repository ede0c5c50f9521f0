"""What every lease store must do. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from streamproc.leases.keeper import AT_ONCE
from streamproc.leases.lease import (
    BulkLeaseStore,
    Lease,
    LeaseStore,
    asked_to_hand_over,
    checkpointed,
    released,
    renewed,
    taken,
)
from streamproc.position import SHARD_END, TRIM_HORIZON, Position

from .conftest import Backend, Open, group_name

FRESH = Lease(key="shardId-000000000000", checkpoint=TRIM_HORIZON)
MINE = taken(FRESH, "me")
FULL = Lease(
    key="shardId-000000000007",
    owner="host:é\U0001f600'\"\n",
    counter=2**52,
    checkpoint=Position("49590338271490256608559692538361571095921575989136588898", 12),
    checkpoint_owner="another",
    owner_switches=3,
    parents=("shardId-000000000001", "shardId-000000000002"),
    children=("shardId-000000000009",),
    starting_hash_key="0",
    ending_hash_key="340282366920938463463374607431768211455",
    incarnation="b4c5",
    stream_created=1_700_000_000,
)

SHARED = ["sqlite", "redis", "dynamodb-dynalite", "dynamodb-ministack"]
"""What several processes can open."""

ATOMIC = ["memory", *SHARED]
"""Where of writers that race one wins: all but moto, which checks first and writes then."""


async def rows(store: LeaseStore) -> dict[str, Lease]:
    return {lease.key: lease for lease in await store.list()}


class TestCreate:
    async def test_a_new_store_is_empty(self, store: LeaseStore) -> None:
        assert await store.list() == []

    async def test_a_created_lease_is_listed(self, store: LeaseStore) -> None:
        assert await store.create(FRESH)
        assert await rows(store) == {FRESH.key: FRESH}

    async def test_an_existing_lease_is_left_alone(self, store: LeaseStore) -> None:
        await store.create(MINE)
        assert not await store.create(FRESH)
        assert not await store.create(MINE)
        assert await rows(store) == {MINE.key: MINE}

    @pytest.mark.parametrize(
        "lease",
        [
            pytest.param(FULL, id="every field"),
            pytest.param(
                msgspec.structs.replace(FRESH, checkpoint=SHARD_END, children=("a",)), id="end"
            ),
            pytest.param(
                msgspec.structs.replace(
                    FRESH, checkpoint=Position("AT_TIMESTAMP", timestamp=1_700_000_000.123456)
                ),
                id="time",
            ),
        ],
    )
    async def test_a_lease_comes_back_as_it_went(self, store: LeaseStore, lease: Lease) -> None:
        await store.create(lease)
        assert await store.list() == [lease]

    async def test_many_leases_are_listed(self, store: LeaseStore) -> None:
        for n in range(300):
            await store.create(msgspec.structs.replace(FRESH, key=f"{n}"))
        assert set(await rows(store)) == {f"{n}" for n in range(300)}

    async def test_each_list_shows_what_others_did_since_the_last(self, open_group: Open) -> None:
        """Also of rows that this store listed or wrote itself."""
        mine, theirs = await open_group("group"), await open_group("group")
        kept, changed, deleted = (msgspec.structs.replace(MINE, key=key) for key in "abc")
        for row in (kept, changed, deleted):
            await mine.create(row)
        assert await rows(mine) == {"a": kept, "b": changed, "c": deleted}
        again = renewed(changed)
        assert await mine.replace(changed, again) == again
        other = released(again)
        assert await theirs.replace(again, other) == other
        assert await theirs.delete(deleted)
        added = msgspec.structs.replace(MINE, key="d")
        await theirs.create(added)
        assert await rows(mine) == {"a": kept, "b": other, "d": added}

    async def test_groups_are_apart(self, open_group: Open) -> None:
        one, other = await open_group("one"), await open_group("other")
        await one.create(MINE)
        assert await other.list() == []
        assert await other.replace(MINE, renewed(MINE)) is None

    async def test_leases_outlive_the_connection(self, open_group: Open) -> None:
        await (await open_group("group")).create(FULL)
        assert await (await open_group("group")).list() == [FULL]


class TestReplaceAll:
    async def test_each_pair_is_a_compare_and_set_of_its_own(self, store: LeaseStore) -> None:
        if not isinstance(store, BulkLeaseStore):
            pytest.skip("takes one write at a time")
        rows_before = [msgspec.structs.replace(MINE, key=f"{n}") for n in range(3)]
        for row in rows_before[:2]:
            await store.create(row)
        moved = renewed(rows_before[1])
        assert await store.replace(rows_before[1], moved) == moved
        wanted = [(row, checkpointed(row, Position("5"), "i")) for row in rows_before]
        assert await store.replace_all(wanted) == [wanted[0][1], moved, None]
        assert await rows(store) == {"0": wanted[0][1], "1": moved}

    async def test_hundreds_are_written_in_one_call(self, store: LeaseStore) -> None:
        if not isinstance(store, BulkLeaseStore):
            pytest.skip("takes one write at a time")
        before = [msgspec.structs.replace(FULL, key=f"{n}") for n in range(AT_ONCE)]
        for row in before:
            await store.create(row)
        after = [renewed(row) for row in before]
        assert await store.replace_all(list(zip(before, after, strict=True))) == after
        assert await rows(store) == {row.key: row for row in after}
        assert await store.replace_all([]) == []


class TestReplace:
    async def test_a_current_row_is_replaced(self, store: LeaseStore) -> None:
        """KCL row 1."""
        await store.create(MINE)
        assert await store.replace(MINE, renewed(MINE)) == renewed(MINE)
        assert await store.list() == [renewed(MINE)]

    async def test_every_field_is_replaced(self, store: LeaseStore) -> None:
        old = msgspec.structs.replace(FRESH, key=FULL.key)
        await store.create(old)
        assert await store.replace(old, FULL) == FULL
        assert await store.list() == [FULL]
        assert await store.replace(FULL, old) == old
        assert await store.list() == [old]

    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param(renewed(MINE), id="counter"),
            pytest.param(msgspec.structs.replace(MINE, owner="other"), id="owner"),
            pytest.param(msgspec.structs.replace(MINE, owner=None), id="no owner"),
            pytest.param(asked_to_hand_over(MINE, "other"), id="hand-over"),
            pytest.param(msgspec.structs.replace(MINE, checkpoint_owner="other"), id="processor"),
        ],
    )
    async def test_a_changed_row_is_left_alone_and_returned(
        self, store: LeaseStore, stored: Lease
    ) -> None:
        """KCL rows 2, 5 and 6."""
        await store.create(stored)
        assert await store.replace(MINE, checkpointed(MINE, Position("5"), "i")) == stored
        assert await store.list() == [stored]

    async def test_only_counter_and_owners_are_compared(self, store: LeaseStore) -> None:
        await store.create(MINE)
        stale = msgspec.structs.replace(MINE, checkpoint=Position("1"), owner_switches=7)
        assert await store.replace(stale, renewed(stale)) == renewed(stale)

    async def test_a_missing_row_is_not_created(self, store: LeaseStore) -> None:
        """KCL rows 8 and 9."""
        assert await store.replace(MINE, renewed(MINE)) is None
        assert await store.list() == []

    async def test_other_rows_are_not_touched(self, store: LeaseStore) -> None:
        await store.create(MINE)
        await store.create(FULL)
        await store.replace(MINE, renewed(MINE))
        assert (await rows(store))[FULL.key] == FULL

    async def test_the_whole_life_of_a_lease(self, store: LeaseStore) -> None:
        await store.create(FRESH)
        lease = FRESH
        for step in (
            taken(FRESH, "a"),
            checkpointed(taken(FRESH, "a"), Position("9"), "i"),
            asked_to_hand_over(checkpointed(taken(FRESH, "a"), Position("9"), "i"), "b"),
        ):
            assert await store.replace(lease, step) == step
            lease = step
        assert await store.replace(lease, released(lease)) == released(lease)
        assert (await store.list())[0].owner == "b"


class TestDelete:
    async def test_a_current_row_is_deleted(self, store: LeaseStore) -> None:
        await store.create(MINE)
        assert await store.delete(MINE)
        assert await store.list() == []

    async def test_a_changed_row_is_kept(self, store: LeaseStore) -> None:
        await store.create(renewed(MINE))
        assert not await store.delete(MINE)
        assert await store.list() == [renewed(MINE)]

    async def test_a_missing_row_is_gone_already(self, store: LeaseStore) -> None:
        """KCL row 7."""
        assert await store.delete(MINE)


@pytest.mark.parametrize("backend", ATOMIC, indirect=True)
class TestRaces:
    async def test_of_writers_that_saw_the_same_row_one_wins(self, open_group: Open) -> None:
        stores = [await open_group("group") for _ in range(4)]
        await stores[0].create(FRESH)
        wanted = [taken(FRESH, f"w{n}") for n in range(24)]
        answers = await asyncio.gather(
            *(stores[n % 4].replace(FRESH, lease) for n, lease in enumerate(wanted))
        )
        [winner] = [lease for lease, answer in zip(wanted, answers, strict=True) if answer == lease]
        assert answers == [winner] * len(wanted)

    async def test_of_creators_one_wins(self, open_group: Open) -> None:
        stores = [await open_group("group") for _ in range(4)]
        answers = await asyncio.gather(*(store.create(FRESH) for store in stores for _ in range(4)))
        assert answers.count(True) == 1


@pytest.mark.parametrize("backend", SHARED, indirect=True)
class TestProcesses:
    async def test_processes_never_win_the_same_counter(
        self, backend: Backend, open_group: Open, request: pytest.FixtureRequest
    ) -> None:
        """Each of several processes moves the counter 50 times, in competition."""
        name, options = backend
        store = await open_group("group")
        await store.create(FRESH)
        order = msgspec.json.encode(
            [name, group_name(request.node.name, "group"), options, FRESH.key, 50]
        )
        racers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("racer.py")),
                order.decode(),
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(3)
        ]
        won: Counter[int] = Counter()
        for racer in racers:
            output, _ = await racer.communicate()
            assert racer.returncode == 0
            won.update(msgspec.json.decode(output, type=list[int]))
        assert won == Counter(range(1, 151))
        assert (await store.list())[0].counter == 150
