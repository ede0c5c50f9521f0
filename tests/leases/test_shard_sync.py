"""Which leases are created and deleted. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.records import ChildShard, HashKeyRange
from streamproc.leases.lease import Lease, ended
from streamproc.leases.shard_sync import (
    child_leases,
    children_to_create,
    finished_leases_to_delete,
    leases_to_create,
    startable,
)
from streamproc.position import LATEST, TRIM_HORIZON, Position
from tests.leases.making import finished, lease, shard
from tests.leases.streams import Stream

NOW = 1_700_000_000.0
AT_NOW = Position("AT_TIMESTAMP", timestamp=NOW)
AT_TIME = Position("AT_TIMESTAMP", timestamp=1_600_000_000.0)


# KCL's worked tree: 0..5 at first; 0+1 -> 6, 2+3 -> 7; then 6+7 -> 8, 5 -> 9, 10; 4 never changes.
KCL_TREE = [
    *(shard(str(n), time=102) for n in (0, 1, 2, 3, 5)),
    shard("4", time=102, closed=False),
    shard("6", "0", "1", time=205),
    shard("7", "2", "3", time=205),
    shard("8", "6", "7", time=208, closed=False),
    shard("9", "5", time=208, closed=False),
    shard("10", "5", time=208, closed=False),
]
DESCENDANTS = {"9": TRIM_HORIZON, "10": TRIM_HORIZON, "8": TRIM_HORIZON}


def created(
    shards: Iterable[ShardInfo], leases: Iterable[Lease], initial: Position
) -> dict[str, Position]:
    return {row.key: row.checkpoint for row in leases_to_create(shards, leases, initial, NOW)}


class TestBeginning:
    """KCL row 29: an empty table."""

    def test_trim_horizon_begins_at_every_listed_shard(self) -> None:
        everything = {shard.shard_id: TRIM_HORIZON for shard in KCL_TREE}
        assert created(KCL_TREE, [], TRIM_HORIZON) == everything

    def test_latest_begins_at_the_open_shards_and_remembers_the_time(self) -> None:
        """A worker that dies before its first record skips nothing."""
        assert created(KCL_TREE, [], LATEST) == dict.fromkeys(["4", "8", "9", "10"], AT_NOW)

    def test_a_time_begins_at_every_shard_listed_for_it(self) -> None:
        assert created(KCL_TREE[5:8], [], AT_TIME) == dict.fromkeys("467", AT_TIME)

    def test_parents_are_created_before_children(self) -> None:
        keys = [row.key for row in leases_to_create(KCL_TREE[::-1], [], TRIM_HORIZON, NOW)]
        places = [[keys.index(name) for name in names] for names in (["0", "6", "8"], ["5", "9"])]
        assert places == [sorted(place) for place in places]

    def test_a_lease_carries_its_shards_parents_and_hash_range(self) -> None:
        [row] = leases_to_create([shard("c", "p", "o", time=1)], [], TRIM_HORIZON, NOW)
        assert (row.parents, row.starting_hash_key, row.ending_hash_key) == (("o", "p"), "0", "1")
        assert (row.owner, row.counter) == (None, 0)


class TestGoingOn:
    """KCL row 31: some leases exist. The descendants, too, are created; KCL does so later."""

    KNOWN = (lease("4"), lease("5"), lease("7"))

    def test_trim_horizon_begins_at_the_oldest_unknown_ancestors(self) -> None:
        wanted = {"0": TRIM_HORIZON, "1": TRIM_HORIZON, "6": TRIM_HORIZON, **DESCENDANTS}
        assert created(KCL_TREE, self.KNOWN, TRIM_HORIZON) == wanted

    def test_latest_begins_at_the_unknown_parent_of_a_known_shards_child(self) -> None:
        assert created(KCL_TREE, self.KNOWN, LATEST) == {"6": AT_NOW, **DESCENDANTS}

    def test_a_time_begins_at_the_oldest_unknown_ancestors(self) -> None:
        wanted = {"0": AT_TIME, "1": AT_TIME, "6": AT_TIME, **DESCENDANTS}
        assert created(KCL_TREE, self.KNOWN, AT_TIME) == wanted

    def test_children_of_a_known_shard_begin_at_its_horizon_even_at_latest(self) -> None:
        """Not doing so loses what was written between the reshard and the look at it."""
        rows = [shard("p", time=1), shard("c", "p", time=2, closed=False)]
        assert created(rows, [lease("p")], LATEST) == {"c": TRIM_HORIZON}

    def test_an_open_shard_unrelated_to_any_lease_begins_at_latest(self) -> None:
        rows = [shard("old", time=1), shard("new", "old", time=2, closed=False)]
        assert created(rows, [lease("x")], LATEST) == {"new": AT_NOW}

    def test_what_was_passed_and_cleaned_up_is_not_created_again(self) -> None:
        rows = [shard("p", time=1), shard("c", "p", time=2, closed=False)]
        assert created(rows, [lease("c")], TRIM_HORIZON) == {}


class TestChildren:
    def test_children_begin_at_their_horizon(self) -> None:
        child = ChildShard("c", ["p", "o"], HashKeyRange("5", "9"))
        [row] = child_leases([child])
        assert row == Lease(
            key="c",
            checkpoint=TRIM_HORIZON,
            parents=("o", "p"),
            starting_hash_key="5",
            ending_hash_key="9",
        )

    def test_a_split_child_is_created_at_once(self) -> None:
        child = lease("c", parents=("p",))
        assert children_to_create([child], "p", []) == [child]

    @pytest.mark.parametrize(
        ("leases", "count"), [([], 0), ([lease("q")], 1), ([finished("q")], 1)]
    )
    def test_a_merge_child_waits_until_its_other_parent_has_a_lease(
        self, leases: list[Lease], count: int
    ) -> None:
        """KCL row 37; beside an absent parent lease the child would start before that parent."""
        child = lease("c", parents=("p", "q"))
        assert len(children_to_create([child], "p", leases)) == count


class TestCleanup:
    PAST = Position("123")

    def test_a_parent_goes_once_every_child_is_past_its_start(self) -> None:
        """KCL row 26."""
        parent = finished("p", "a", "b")
        rows = [parent, lease("a", checkpoint=self.PAST), lease("b", checkpoint=self.PAST)]
        assert finished_leases_to_delete(rows) == [parent]

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([lease("a", checkpoint=PAST), lease("b")], id="child at its start"),
            pytest.param([lease("a", checkpoint=PAST)], id="child lease missing"),
            pytest.param(
                [lease("a", checkpoint=PAST), lease("b", checkpoint=AT_TIME)], id="child at a time"
            ),
            pytest.param(
                [lease("a", checkpoint=PAST), lease("b", checkpoint=PAST), lease("g")],
                id="own parent present",
            ),
        ],
    )
    def test_a_parent_stays(self, rows: list[Lease]) -> None:
        """KCL row 27."""
        assert finished_leases_to_delete([finished("p", "a", "b", parents=("g",)), *rows]) == []

    def test_a_shard_being_read_stays(self) -> None:
        rows = [lease("p", children=("a",)), lease("a", checkpoint=self.PAST)]
        assert finished_leases_to_delete(rows) == []

    def test_a_finished_shard_without_known_children_stays(self) -> None:
        assert finished_leases_to_delete([finished("p")]) == []


class Group:
    """A consumer group over a stream that is resharded under it; crashes included."""

    def __init__(self, stream: Stream, initial: Position, rng: Random) -> None:
        self.stream = stream
        self.initial = initial
        self.rng = rng
        self.table: dict[str, Lease] = {}
        self.ended: list[str] = []
        self.began_at = frozenset[str]()
        self.crashes = True

    def sync(self) -> None:
        """Create what is missing; maybe die somewhere in between, unless the group just begins."""
        missing = leases_to_create(
            self.stream.listed(self.rng), self.table.values(), self.initial, NOW
        )
        if not self.table:
            self.began_at = frozenset(row.key for row in missing)
        elif self.crashes:
            missing = missing[: self.rng.randint(0, len(missing))]
        self._create(missing)

    def read(self) -> None:
        """Read a startable shard to its end, or a little."""
        ready = [
            row for row in self.table.values() if not row.is_finished and startable(row, self.table)
        ]
        if not ready:
            return
        row = self.rng.choice(ready)
        info = self.stream.shards[row.key]
        if info.is_open:
            self.table[row.key] = msgspec.structs.replace(row, checkpoint=Position("77"))
            return
        children = child_leases(self.stream.children(row.key))
        self._create(children_to_create(children, row.key, self.table.values()))
        if self.crashes and self.rng.random() < 0.2:
            return  # Died before it could mark the end.
        self.ended.append(row.key)
        self.table[row.key] = ended(row, tuple(child.key for child in children))

    def clean_up(self) -> None:
        for row in finished_leases_to_delete(list(self.table.values())):
            del self.table[row.key]

    def _create(self, leases: Iterable[Lease]) -> None:
        for row in leases:
            assert row.key not in self.ended, "a shard that was read begins again"
            self.table.setdefault(row.key, row)


@given(
    st.integers(1, 5), st.integers(0, 6), st.sampled_from([TRIM_HORIZON, LATEST]), st.integers(0)
)
def test_no_shard_is_lost_read_twice_or_read_before_its_parents(
    shards: int, reshards: int, initial: Position, seed: int
) -> None:
    """Resharding, crashes, cleanup and listings in any order and at any time (KCL rows 33, 60)."""
    rng = Random(seed)
    stream = Stream(shards)
    for _ in range(reshards):
        stream.reshard(rng)
    group = Group(stream, initial, rng)
    group.sync()
    steps: list[Callable[[], None]] = [
        group.sync,
        group.read,
        group.read,
        group.clean_up,
        lambda: stream.reshard(rng),
    ]
    for _ in range(rng.randint(0, 60)):
        rng.choice(steps)()
    # Now the stream rests, and the group catches up; an open shard may be read in vain.
    group.crashes = False
    group.sync()
    for _ in range(20 * len(stream.shards)):
        group.read()
        group.clean_up()
    group.sync()

    assert len(group.ended) == len(set(group.ended))
    place = {key: n for n, key in enumerate(group.ended)}
    read = group.began_at | {key for key in stream.shards if _descends(stream, key, group.began_at)}
    for key in read:
        info = stream.shards[key]
        assert info.is_open or key in place, f"{key} was not read to its end"
        for parent in set(info.parents) & read:
            assert info.is_open or place[parent] < place[key], f"{key} was read before {parent}"
    assert {shard.shard_id for shard in stream.open} <= set(group.table)
    assert leases_to_create(stream.listed(), group.table.values(), initial, NOW) == []


def _descends(stream: Stream, key: str, ancestors: frozenset[str]) -> bool:
    return any(
        parent in ancestors or _descends(stream, parent, ancestors)
        for parent in stream.shards[key].parents
    )
