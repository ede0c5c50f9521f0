"""Rows as KCL has them: attribute names, types, conditions. "KCL row n": see test_contract."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.leases.lease import (
    Lease,
    asked_to_hand_over,
    checkpointed,
    ended,
    released,
    renewed,
    taken,
)
from streamproc.position import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamproc_checkpoints.dynamodb_items import LeaseItems, MalformedRow

PLAIN = LeaseItems()
STREAM = "123456789012:orders:1700000000"
MULTI = LeaseItems(STREAM)
FRESH = Lease(key="shardId-000000000001", checkpoint=TRIM_HORIZON)
SEQUENCE = "49590338271490256608559692538361571095921575989136588898"

# A row as KCL 3.1.3 wrote it.
KCL_ROW: dict[str, Any] = {
    "leaseKey": {"S": "shardId-000000000002"},
    "leaseOwner": {"S": "kcl-worker"},
    "leaseCounter": {"N": "17"},
    "checkpoint": {"S": SEQUENCE},
    "checkpointSubSequenceNumber": {"N": "3"},
    "ownerSwitchesSinceCheckpoint": {"N": "0"},
    "startingHashKey": {"S": "0"},
    "endingHashKey": {"S": "170141183460469231731687303715884105727"},
    "parentShardId": {"SS": ["shardId-000000000000"]},
    "throughputKBps": {"N": "12.5"},
}


def names(arguments: dict[str, Any], expression: str) -> str:
    """Return an expression of a request with its placeholders filled in."""
    text: str = arguments[expression]
    filled = arguments["ExpressionAttributeNames"] | {
        name: next(iter(value.values()))
        for name, value in arguments.get("ExpressionAttributeValues", {}).items()
    }
    for placeholder in sorted(filled, key=len, reverse=True):
        text = text.replace(placeholder, str(filled[placeholder]))
    return text


def change(old: Lease, new: Lease) -> str:
    return names(PLAIN.update(old, new).arguments, "UpdateExpression")


class TestRows:
    def test_a_row_of_kcl_is_read(self) -> None:
        assert PLAIN.decode(KCL_ROW) == Lease(
            key="shardId-000000000002",
            owner="kcl-worker",
            counter=17,
            checkpoint=Position(SEQUENCE, 3),
            parents=("shardId-000000000000",),
            starting_hash_key="0",
            ending_hash_key="170141183460469231731687303715884105727",
        )

    def test_a_fresh_lease_has_no_empty_attribute(self) -> None:
        assert PLAIN.encode(FRESH) == {
            "leaseKey": {"S": "shardId-000000000001"},
            "leaseCounter": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "0"},
            "checkpoint": {"S": "TRIM_HORIZON"},
            "checkpointSubSequenceNumber": {"N": "0"},
        }

    def test_names_are_string_sets_and_our_facts_are_attributes_of_our_own(self) -> None:
        full = Lease(
            key="s",
            owner="me",
            counter=5,
            checkpoint=SHARD_END,
            checkpoint_owner="other",
            owner_switches=2,
            parents=("p2", "p1"),
            children=("c",),
            starting_hash_key="0",
            ending_hash_key="9",
            incarnation="redis-1",
            stream_created=1_700_000_000,
        )
        assert PLAIN.encode(full) == {
            "leaseKey": {"S": "s"},
            "leaseOwner": {"S": "me"},
            "leaseCounter": {"N": "5"},
            "checkpoint": {"S": "SHARD_END"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "checkpointOwner": {"S": "other"},
            "ownerSwitchesSinceCheckpoint": {"N": "2"},
            "parentShardId": {"SS": ["p1", "p2"]},
            "childShardIds": {"SS": ["c"]},
            "startingHashKey": {"S": "0"},
            "endingHashKey": {"S": "9"},
            "streamprocCheckpoint": {"S": "SHARD_END"},
            "streamprocIncarnation": {"S": "redis-1"},
            "streamprocStreamCreated": {"N": "1700000000"},
        }

    def test_keys_of_several_streams_carry_the_identifier_and_parents_do_not(self) -> None:
        lease = msgspec.structs.replace(FRESH, parents=("shardId-000000000000",))
        item = MULTI.encode(lease)
        assert item["leaseKey"] == {"S": f"{STREAM}:shardId-000000000001"}
        assert item["streamName"] == {"S": STREAM}
        assert item["shardId"] == {"S": "shardId-000000000001"}
        assert item["parentShardId"] == {"SS": ["shardId-000000000000"]}
        assert MULTI.decode(item) == lease

    def test_rows_of_another_stream_are_passed_over(self) -> None:
        assert LeaseItems("123456789012:clicks:1700000000").decode(MULTI.encode(FRESH)) is None
        assert MULTI.decode(PLAIN.encode(FRESH)) is None

    def test_a_table_of_several_streams_asks_for_the_option(self) -> None:
        with pytest.raises(MalformedRow, match=r"leases\.options\.stream_identifier"):
            PLAIN.decode(MULTI.encode(FRESH))

    @pytest.mark.parametrize(
        "kind",
        ["STREAM", "LEADER", "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "WORKER_METRIC_STATS"],
    )
    def test_rows_of_other_kinds_are_no_leases(self, kind: str) -> None:
        """KCL row 12: KCL 3.5 keeps them in the lease table."""
        assert PLAIN.decode(KCL_ROW | {"entityType": {"S": kind}}) is None
        assert PLAIN.decode({"leaseKey": {"S": "x"}, "entityType": {"S": kind}}) is None

    def test_a_row_that_says_it_is_a_lease_is_one(self) -> None:
        assert PLAIN.decode(KCL_ROW | {"entityType": {"S": "LEASE"}}) == PLAIN.decode(KCL_ROW)

    @pytest.mark.parametrize(
        "damage",
        [
            {"leaseCounter": None},
            {"leaseCounter": {"S": "7"}},
            {"leaseCounter": {"N": "1.5"}},
            {"checkpoint": None},
            {"checkpoint": {"S": "SOMEWHERE"}},
            {"leaseOwner": {"NULL": True}},
            {"parentShardId": {"S": "shardId-000000000000"}},
            {"checkpointSubSequenceNumber": {"S": "1"}},
        ],
    )
    def test_a_damaged_row_is_refused(self, damage: dict[str, Any]) -> None:
        row = {name: value for name, value in (KCL_ROW | damage).items() if value is not None}
        with pytest.raises(MalformedRow):
            PLAIN.decode(row)

    @given(
        st.builds(
            Lease,
            key=st.text(min_size=1),
            owner=st.none() | st.text(min_size=1),
            counter=st.integers(0, 2**60),
            checkpoint=st.sampled_from([TRIM_HORIZON, LATEST, SHARD_END])
            | st.builds(Position, st.integers(0, 10**56).map(str), st.integers(0, 1000), st.none())
            | st.floats(0, 2e9).map(lambda time: Position("AT_TIMESTAMP", timestamp=time)),
            checkpoint_owner=st.none() | st.text(min_size=1),
            owner_switches=st.integers(0, 10),
            parents=st.sets(st.text(min_size=1), max_size=2).map(sorted).map(tuple),
            children=st.sets(st.text(min_size=1), max_size=2).map(sorted).map(tuple),
            incarnation=st.none() | st.text(min_size=1),
            stream_created=st.none() | st.integers(0, 2**40),
        ),
        st.sampled_from([PLAIN, MULTI, LeaseItems(None, LATEST)]),
    )
    def test_every_lease_comes_back(self, lease: Lease, items: LeaseItems) -> None:
        row = items.encode(lease)
        assert items.decode(row) == lease
        assert all(value not in ({"S": ""}, {"SS": []}, {"NULL": True}) for value in row.values())


class TestTimes:
    """KCL stores AT_TIMESTAMP without the time, which is in its configuration."""

    def test_a_time_of_ours_is_an_attribute_beside_kcls_word(self) -> None:
        row = PLAIN.encode(Lease(key="s", checkpoint=Position("AT_TIMESTAMP", timestamp=12.25)))
        assert row["checkpoint"] == {"S": "AT_TIMESTAMP"}
        assert row["streamprocTimestamp"] == {"N": "12.25"}

    def test_where_the_group_begins_at_latest_kcl_is_told_latest(self) -> None:
        """A KCL worker configured with LATEST has no time to put to AT_TIMESTAMP."""
        items = LeaseItems(begin=LATEST)
        lease = Lease(key="s", checkpoint=Position("AT_TIMESTAMP", timestamp=12.25))
        assert items.encode(lease)["checkpoint"] == {"S": "LATEST"}
        assert items.decode(items.encode(lease)) == lease

    def test_a_row_of_kcl_begins_at_the_time_that_is_configured(self) -> None:
        begin = Position("AT_TIMESTAMP", timestamp=99.0)
        lease = LeaseItems(begin=begin).decode(KCL_ROW | {"checkpoint": {"S": "AT_TIMESTAMP"}})
        assert lease is not None
        assert lease.checkpoint == begin

    def test_without_a_configured_time_it_is_refused_with_the_remedy(self) -> None:
        with pytest.raises(MalformedRow, match=r"stream\.initial_position"):
            PLAIN.decode(KCL_ROW | {"checkpoint": {"S": "AT_TIMESTAMP"}})

    def test_a_checkpoint_after_the_time_counts(self) -> None:
        row = KCL_ROW | {"streamprocTimestamp": {"N": "12.25"}}
        lease = PLAIN.decode(row)
        assert lease is not None
        assert lease.checkpoint == Position(SEQUENCE, 3)


class TestUpdates:
    """KCL.md 1.2: what each write touches and what it is conditioned on."""

    def test_a_renewal_moves_the_counter_alone(self) -> None:
        """KCL row 1."""
        lease = taken(FRESH, "me")
        assert change(lease, renewed(lease)) == "SET leaseCounter = 2"

    def test_it_is_conditioned_on_counter_and_both_owners(self) -> None:
        lease = taken(FRESH, "me")
        arguments = PLAIN.update(lease, renewed(lease)).arguments
        assert names(arguments, "ConditionExpression") == (
            "leaseCounter = 1 AND leaseOwner = me AND attribute_not_exists(checkpointOwner)"
        )
        asked = asked_to_hand_over(lease, "you")
        arguments = PLAIN.update(asked, renewed(asked)).arguments
        assert names(arguments, "ConditionExpression") == (
            "leaseCounter = 1 AND leaseOwner = you AND checkpointOwner = me"
        )

    def test_a_take_of_an_unowned_lease_counts_no_switch(self) -> None:
        """KCL row 3."""
        assert change(FRESH, taken(FRESH, "me")) == "SET leaseCounter = 1, leaseOwner = me"

    def test_a_take_from_another_counts_a_switch(self) -> None:
        """KCL row 4."""
        theirs = taken(FRESH, "you")
        assert change(theirs, taken(theirs, "me")) == (
            "SET leaseCounter = 2, ownerSwitchesSinceCheckpoint = 1, leaseOwner = me"
        )

    def test_a_take_ends_a_hand_over(self) -> None:
        """KCL row 11."""
        asked = asked_to_hand_over(taken(FRESH, "you"), "me")
        assert change(asked, taken(asked, "me")) == "SET leaseCounter = 2 REMOVE checkpointOwner"

    def test_a_request_for_hand_over_leaves_the_counter(self) -> None:
        theirs = taken(FRESH, "you")
        assert change(theirs, asked_to_hand_over(theirs, "me")) == (
            "SET leaseOwner = me, checkpointOwner = you"
        )

    def test_a_checkpoint_voids_what_kcl_prepared_and_resets_the_switches(self) -> None:
        lease = msgspec.structs.replace(taken(FRESH, "me"), owner_switches=3)
        assert change(lease, checkpointed(lease, Position("7", 2), "redis-1")) == (
            "SET checkpoint = 7, checkpointSubSequenceNumber = 2, leaseCounter = 2, "
            "ownerSwitchesSinceCheckpoint = 0, streamprocIncarnation = redis-1, "
            "streamprocCheckpoint = 7:2 "
            "REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"
        )

    def test_a_release_is_kcls_eviction(self) -> None:
        """KCL row 6."""
        lease = taken(FRESH, "me")
        assert change(lease, released(lease)) == "SET leaseCounter = 2 REMOVE leaseOwner"

    def test_a_release_to_the_waiting_owner_is_kcls_assignment(self) -> None:
        """KCL row 11."""
        asked = asked_to_hand_over(taken(FRESH, "me"), "you")
        assert change(asked, released(asked)) == "SET leaseCounter = 2 REMOVE checkpointOwner"

    def test_the_end_of_a_shard_names_its_children(self) -> None:
        lease = taken(FRESH, "me")
        arguments = PLAIN.update(lease, ended(lease, ("b", "a"))).arguments
        assert arguments["ExpressionAttributeValues"][":s_childShardIds"] == {"SS": ["a", "b"]}
        assert "checkpoint = SHARD_END" in names(arguments, "UpdateExpression")

    def test_what_is_not_changed_is_not_written(self) -> None:
        """KCL fills in hash ranges and children without moving the counter."""
        lease = PLAIN.decode(KCL_ROW)
        assert lease is not None
        assert change(lease, renewed(lease)) == "SET leaseCounter = 18"


class TestIncarnation:
    """Of which Redis a checkpoint speaks; KCL moves checkpoints and knows of no Redis."""

    LEASE = msgspec.structs.replace(
        taken(FRESH, "me"), checkpoint=Position(SEQUENCE, 3), incarnation="redis-1"
    )

    def test_it_is_known_of_a_checkpoint_of_ours(self) -> None:
        assert PLAIN.decode(PLAIN.encode(self.LEASE)) == self.LEASE

    def test_it_is_not_of_a_checkpoint_that_kcl_has_moved(self) -> None:
        row = PLAIN.encode(self.LEASE) | {"checkpoint": {"S": SEQUENCE + "0"}}
        lease = PLAIN.decode(row)
        assert lease is not None
        assert lease.incarnation is None


class TestWhetherAnUpdateLanded:
    LEASE = taken(FRESH, "me")

    def test_it_shows_in_the_row(self) -> None:
        update = PLAIN.update(self.LEASE, renewed(self.LEASE))
        assert update.is_in(PLAIN.encode(renewed(self.LEASE)))
        assert update.is_in(PLAIN.encode(renewed(self.LEASE)) | {"throughputKBps": {"N": "1"}})
        assert not update.is_in(PLAIN.encode(self.LEASE))

    def test_another_workers_write_with_the_same_counter_is_not_mine(self) -> None:
        update = PLAIN.update(self.LEASE, renewed(self.LEASE))
        assert not update.is_in(PLAIN.encode(taken(self.LEASE, "you")))
        assert not update.is_in(PLAIN.encode(released(self.LEASE)))
        asked = asked_to_hand_over(renewed(self.LEASE), "you")
        assert not update.is_in(PLAIN.encode(asked))

    def test_a_removed_attribute_must_be_gone(self) -> None:
        update = PLAIN.update(self.LEASE, released(self.LEASE))
        assert update.is_in(PLAIN.encode(released(self.LEASE)))
        assert not update.is_in(PLAIN.encode(renewed(self.LEASE)))
