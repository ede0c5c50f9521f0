"""What is wrong with a lease table. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease, ended
from streamproc.leases.shard_audit import (
    CONFIDENCE,
    HASH_KEYS,
    Hole,
    HoleWatch,
    first_hole,
    foreign_leases,
    lease_hole,
)
from streamproc.leases.shard_sync import child_leases, leases_to_create
from streamproc.position import SHARD_END, TRIM_HORIZON, Position
from tests.leases.making import lease
from tests.leases.streams import Stream

LAST = HASH_KEYS - 1


class TestHoles:
    @pytest.mark.parametrize(
        ("ranges", "hole"),
        [
            ([(0, LAST)], None),
            ([(10, LAST), (0, 9)], None),
            ([(0, 9), (5, LAST)], None),
            ([(0, LAST), (5, 9)], None),
            ([], Hole(0, LAST)),
            ([(1, LAST)], Hole(0, 0)),
            ([(0, 9), (11, LAST)], Hole(10, 10)),
            ([(0, LAST - 1)], Hole(LAST, LAST)),
        ],
    )
    def test_the_lowest_hash_keys_that_nothing_covers(
        self, ranges: list[tuple[int, int]], hole: Hole | None
    ) -> None:
        assert first_hole(ranges) == hole

    def test_finished_leases_cover_nothing(self) -> None:
        row = lease("p", starting_hash_key="0", ending_hash_key=str(LAST))
        assert lease_hole([row]) is None
        assert lease_hole([ended(row, ())]) == Hole(0, LAST)

    def test_a_row_without_a_range_makes_the_table_unjudgeable(self) -> None:
        assert lease_hole([lease("p")]) is None

    @settings(max_examples=1_000)
    @given(st.integers(1, 6), st.integers(0, 12), st.integers(0))
    def test_no_hole_is_seen_in_any_reshard_tree_however_far_it_was_read(
        self, shards: int, reshards: int, seed: int
    ) -> None:
        """KCL row 60: children get their leases before a parent's is finished."""
        rng = Random(seed)
        stream = Stream(shards)
        table = {row.key: row for row in leases_to_create(stream.listed(), [], TRIM_HORIZON, 0.0)}
        for _ in range(reshards):
            stream.reshard(rng)
        for row in list(table.values()):
            if not stream.shards[row.key].is_open and rng.random() < 0.5:
                for child in child_leases(stream.children(row.key)):
                    table.setdefault(child.key, child)
                table[row.key] = ended(row, ())
        assert lease_hole(table.values()) is None
        victim = rng.choice([row for row in table.values() if not row.is_finished])
        others = [row for row in table.values() if row.key != victim.key]
        low, high = int(victim.starting_hash_key or 0), int(victim.ending_hash_key or 0)
        hidden = any(
            not row.is_finished
            and int(row.starting_hash_key or 0) <= high
            and int(row.ending_hash_key or 0) >= low
            for row in others
        )
        assert hidden or lease_hole(others) == Hole(low, high)


class TestConfidence:
    """KCL row 59: a hole is believed when the same one was seen three times in a row."""

    def test_the_same_hole_is_believed_once(self) -> None:
        watch = HoleWatch()
        seen = [watch.see(Hole(1, 2)) for _ in range(CONFIDENCE + 3)]
        assert seen == [False, False, True, False, False, False]

    def test_a_hole_that_shifts_begins_anew(self) -> None:
        watch = HoleWatch()
        holes = [Hole(1, 2), Hole(1, 2), Hole(1, 3), Hole(1, 2), Hole(1, 2), Hole(1, 2)]
        assert [watch.see(hole) for hole in holes] == [False] * 5 + [True]

    def test_a_hole_that_closes_begins_anew(self) -> None:
        watch = HoleWatch()
        holes = [Hole(1, 2), Hole(1, 2), None, Hole(1, 2), Hole(1, 2)]
        assert not any(watch.see(hole) for hole in holes)


class TestAnotherStreamOfTheName:
    CREATED = 1_700_000_000
    SHARD = ShardInfo(
        shard_id="s",
        parents=(),
        starting_hash_key="0",
        ending_hash_key="9",
        starting_sequence_number="1000",
        ending_sequence_number=None,
    )

    def foreign(self, row: Lease, created: int | None = CREATED) -> bool:
        return foreign_leases([row], {"s": self.SHARD}, created) == [row]

    def test_a_lease_of_an_earlier_stream_is_foreign(self) -> None:
        assert self.foreign(lease("s", stream_created=self.CREATED - 1))

    def test_a_lease_of_this_stream_is_not(self) -> None:
        assert not self.foreign(lease("s", stream_created=self.CREATED))

    def test_an_unknown_age_on_either_side_proves_nothing(self) -> None:
        assert not self.foreign(lease("s"))
        assert not self.foreign(lease("s", stream_created=self.CREATED), None)

    def test_a_checkpoint_below_the_shards_first_number_is_foreign(self) -> None:
        """Rows that KCL wrote carry no age."""
        assert self.foreign(lease("s", checkpoint=Position("999")))
        assert not self.foreign(lease("s", checkpoint=Position("1000")))

    @pytest.mark.parametrize("place", [TRIM_HORIZON, SHARD_END])
    def test_a_sentinel_says_nothing(self, place: Position) -> None:
        assert not self.foreign(lease("s", checkpoint=place))

    def test_a_shard_that_is_not_listed_says_nothing(self) -> None:
        row = msgspec.structs.replace(lease("t"), checkpoint=Position("1"))
        assert not self.foreign(row)
