"""The watch over stream and lease table. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from random import Random

import msgspec
import pytest

from streamproc.config import StreamConfig
from streamproc.errors import LeaseStoreError, StreamRecreated
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult, StreamSummary
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import TransientError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease, ended
from streamproc.position import LATEST, TRIM_HORIZON, Position
from streamproc.shard_watch import ShardWatch
from streamproc.testing.memory_state import MemoryStateStore
from tests.leases.streams import Stream

CREATED = 1_700_000_000


class FakeKinesis(KinesisApi):
    """A stream's control plane.

    Attributes:
        hidden: shards left out of the next listings, one set a listing.
        asked: what the listings were filtered by.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.created = float(CREATED)
        self.hidden: list[set[str]] = []
        self.asked: list[Position | None] = []
        self.failures = 0

    async def list_shards(self, at: Position | None = None) -> list[ShardInfo]:
        self.asked.append(at)
        if self.failures:
            self.failures -= 1
            raise TransientError("planned")
        hidden = self.hidden.pop(0) if self.hidden else set()
        shards = self.stream.open if at == LATEST else self.stream.listed()
        return [shard for shard in shards if shard.shard_id not in hidden]

    async def describe_stream(self) -> StreamSummary:
        return StreamSummary(
            name="s",
            status="ACTIVE",
            arn="arn",
            retention_hours=24,
            creation_timestamp=self.created + 0.25,
            open_shard_count=len(self.stream.open),
            encryption="NONE",
        )

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        raise NotImplementedError

    async def shard_iterator(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> str:
        raise NotImplementedError

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        raise NotImplementedError


class Table:
    """The coordinator's side of the lease table, and a clock."""

    def __init__(self) -> None:
        self.rows: dict[str, Lease] = {}
        self.now = 5_000.0
        self.scanned = self.now
        self.failures = 0

    def snapshot(self) -> Sequence[Lease]:
        return tuple(self.rows.values())

    def scanned_at(self) -> float:
        return self.scanned

    async def leases(self) -> list[Lease]:
        return list(self.rows.values())

    async def create(self, leases: Iterable[Lease], until: float | None = None) -> int:
        new = 0
        for lease in leases:
            if until is not None and self.now >= until:
                break
            if self.failures:
                self.failures -= 1
                raise LeaseStoreError("planned")
            new += lease.key not in self.rows
            self.rows.setdefault(lease.key, lease)
        return new

    async def delete(self, leases: Iterable[Lease]) -> int:
        gone = [self.rows.pop(lease.key) for lease in leases]
        return len(gone)


class Watched:
    """A watch over fakes, looked through step by step."""

    def __init__(self, shards: int = 2, initial: Position = TRIM_HORIZON) -> None:
        self.stream = Stream(shards)
        self.kinesis = FakeKinesis(self.stream)
        self.table = Table()
        self.state = MemoryStateStore()
        self.pauses: list[float] = []
        self.initial = initial
        self.watch = self.another()

    def another(self) -> ShardWatch:
        return ShardWatch(
            StreamConfig(name="s"),
            self.initial,
            self.kinesis,
            self.table,
            [self.state],
            keep_finished=100.0,
            fresh=30.0,
            clock=lambda: self.table.now,
            wall_clock=lambda: CREATED + 9.0,
            sleep=self._sleep,
            rng=Random(0),
        )

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.table.scanned = self.table.now
            await self.watch.look()

    def finish(self, key: str) -> None:
        """End a shard as its reader does, its children's leases past their beginning."""
        children = [child.shard_id for child in self.stream.children(key)]
        self.table.rows[key] = ended(self.table.rows[key], tuple(children))
        for child in children:
            row = self.table.rows[child]
            self.table.rows[child] = msgspec.structs.replace(row, checkpoint=Position("7777"))

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.mark.parametrize(
    "initial", [TRIM_HORIZON, LATEST, Position("AT_TIMESTAMP", timestamp=CREATED + 5.0)]
)
async def test_a_new_group_lists_with_the_filter_of_its_position(initial: Position) -> None:
    """KCL row 29: one lease for each shard that was open then."""
    watched = Watched(3, initial)
    await watched.look()
    assert watched.kinesis.asked == [initial]
    assert list(watched.table.rows) == [shard.shard_id for shard in watched.stream.open]
    assert {row.stream_created for row in watched.table.rows.values()} == {CREATED}


async def test_a_new_group_does_not_begin_with_a_hole(caplog: pytest.LogCaptureFixture) -> None:
    """KCL row 30. KCL's worker gives up here; this one says so, and looks again later."""
    watched = Watched(3)
    missing = watched.stream.open[1]
    watched.kinesis.hidden = [{missing.shard_id}] * 3
    await watched.look()
    assert watched.table.rows == {}
    assert watched.pauses == [1.0, 1.0, 1.0]
    [message] = caplog.messages
    assert f"hash keys {missing.starting_hash_key} to {missing.ending_hash_key}" in message
    await watched.look()
    assert len(watched.table.rows) == 3


async def test_a_hole_of_one_listing_is_looked_at_again() -> None:
    watched = Watched(3)
    watched.kinesis.hidden = [{watched.stream.open[0].shard_id}]
    await watched.look()
    assert len(watched.table.rows) == 3


async def test_children_that_a_reader_did_not_create_are_created() -> None:
    watched = Watched(1, LATEST)
    await watched.look()
    watched.stream.split(watched.stream.open[0])
    await watched.look()
    children = list(watched.table.rows.values())[1:]
    assert [row.checkpoint for row in children] == [TRIM_HORIZON, TRIM_HORIZON]
    assert watched.kinesis.asked[-1] is None


async def test_failures_anywhere_end_in_the_same_leases() -> None:
    """KCL row 33."""
    watched = Watched(4)
    for failing in (watched.kinesis, watched.table, watched.table):
        failing.failures = 1
        with pytest.raises((TransientError, LeaseStoreError)):
            await watched.look()
    await watched.look()
    assert sorted(watched.table.rows) == sorted(watched.stream.shards)


async def with_a_finished_parent() -> tuple[Watched, str]:
    """Return a stream that was split, and the key of the parent's lease, which is finished."""
    watched = Watched(1)
    await watched.look()
    [parent] = watched.table.rows
    watched.stream.split(watched.stream.open[0])
    await watched.look()
    watched.finish(parent)
    return watched, parent


async def test_a_finished_lease_is_deleted_once_nothing_has_needed_it_for_long() -> None:
    """KCL rows 26 and 27."""
    watched, parent = await with_a_finished_parent()
    await watched.look()
    watched.table.now += 99.0
    await watched.look()
    assert parent in watched.table.rows
    watched.table.now += 1.0
    await watched.look()
    assert parent not in watched.table.rows
    assert len(watched.table.rows) == 2
    await watched.look()
    assert len(watched.table.rows) == 2, "it was created again"


async def test_a_lease_that_is_needed_again_meanwhile_is_kept() -> None:
    watched, parent = await with_a_finished_parent()
    child = watched.table.rows[watched.table.rows[parent].children[0]]
    await watched.look()
    watched.table.now += 99.0
    watched.table.rows[child.key] = msgspec.structs.replace(child, checkpoint=TRIM_HORIZON)
    await watched.look()
    watched.table.rows[child.key] = child
    watched.table.now += 1.0
    await watched.look()
    assert parent in watched.table.rows


async def test_the_finished_lease_of_a_trimmed_shard_is_deleted() -> None:
    """KCL row 28."""
    watched = Watched(2)
    await watched.look()
    old, other = watched.stream.open
    watched.stream.merge(old, other)
    await watched.look()
    child = next(reversed(watched.table.rows))
    for key in (old.shard_id, other.shard_id):
        # Its child is not past its beginning: only that Kinesis forgot the shard lets it go.
        watched.table.rows[key] = ended(watched.table.rows[key], (child,))
    del watched.stream.shards[old.shard_id]
    await watched.look()
    watched.table.now += 100.0
    await watched.look()
    assert sorted(watched.table.rows) == [other.shard_id, child]


async def test_the_unfinished_lease_of_a_trimmed_shard_is_left_to_its_reader() -> None:
    watched = Watched(1)
    await watched.look()
    [key] = watched.table.rows
    watched.stream.split(watched.stream.open[0])
    del watched.stream.shards[key]
    await watched.look()
    watched.table.now += 1_000.0
    await watched.look()
    assert key in watched.table.rows
    assert len(watched.table.rows) == 3


async def test_a_trimmed_lease_stays_while_a_child_of_it_has_none() -> None:
    watched = Watched(1)
    await watched.look()
    [key] = watched.table.rows
    watched.table.rows[key] = ended(watched.table.rows[key], ())
    watched.stream.split(watched.stream.open[0])
    del watched.stream.shards[key]
    children = {shard.shard_id for shard in watched.stream.open}
    watched.table.failures = 99
    for _ in range(2):
        with pytest.raises(LeaseStoreError):
            await watched.look()
        watched.table.now += 200.0
    watched.table.failures = 0
    await watched.look()
    assert {row.key for row in watched.table.rows.values() if row.checkpoint == TRIM_HORIZON} == (
        children
    )


async def test_a_worker_that_stood_still_brings_no_deleted_lease_back() -> None:
    """Simulation seed 153: its view of the table was from before it was stopped."""
    watched = Watched(1)
    await watched.look()
    stale = dict(watched.table.rows)
    [parent] = stale
    watched.stream.split(watched.stream.open[0])
    await watched.look()
    watched.finish(parent)
    for child in list(watched.table.rows.values())[1:]:
        watched.stream.split(watched.stream.shards[child.key])
    await watched.look()
    for child in list(watched.table.rows)[1:3]:
        watched.finish(child)
    alive = {key: row for key, row in watched.table.rows.items() if not row.is_finished}
    watched.table.rows = stale
    watched.table.scanned = watched.table.now
    watched.table.now += 30.0
    await watched.watch.look()
    assert watched.table.rows == stale
    watched.table.rows = alive
    await watched.look()
    assert watched.table.rows == alive


async def test_positions_go_once_neither_kinesis_nor_a_lease_knows_the_shard() -> None:
    watched = Watched(2)
    await watched.look()
    for shard in (*watched.stream.shards, "trimmed"):
        await watched.state.adopt(f"s/{shard}", 1, TRIM_HORIZON)
    await watched.state.adopt("other-stream/trimmed", 1, TRIM_HORIZON)
    listed, leased = watched.stream.open
    del watched.table.rows[listed.shard_id], watched.stream.shards[leased.shard_id]
    watched.watch = watched.another()
    await watched.look()
    assert await watched.state.positioned_shards("s") == {listed.shard_id, leased.shard_id}
    assert await watched.state.positioned_shards("other-stream") == {"trimmed"}


async def test_a_stream_that_was_created_again_is_refused_with_what_to_do() -> None:
    watched = Watched(2)
    await watched.look()
    watched.kinesis.created += 3_600
    watched.watch = watched.another()
    rows = dict(watched.table.rows)
    with pytest.raises(StreamRecreated) as refused:
        await watched.look()
    for word in ("'s' was deleted and created again at 2023-11-14T23:13:20", "2 leases"):
        assert word in str(refused.value)
    assert "streamproc checkpoints reset --all --yes" in str(refused.value)
    assert watched.table.rows == rows


async def test_a_stream_that_is_created_again_meanwhile_ends_the_watch() -> None:
    watched = Watched(2)
    await watched.look()
    watched.kinesis.created += 60
    with pytest.raises(StreamRecreated, match="began with an earlier one"):
        await watched.look(10)


async def test_a_hole_in_the_table_is_told_when_it_is_certain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """KCL row 59."""
    watched = Watched(2)
    await watched.look()
    gone, _ = watched.table.rows
    watched.table.rows[gone] = ended(watched.table.rows[gone], ())  # As by a careless hand.
    caplog.set_level(logging.ERROR)
    await watched.look(2)
    assert caplog.messages == []
    await watched.look(3)
    [message] = caplog.messages
    assert "no lease covers hash keys 0 to" in message


class Forgetful:
    async def positioned_shards(self, stream: str) -> set[str]:
        raise AssertionError("not at every look")

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        raise AssertionError("nothing is to be forgotten")


async def test_rare_business_is_rare() -> None:
    watched = Watched(1)
    await watched.look(2)
    watched.watch._stores = [Forgetful()]
    await watched.look(5)
