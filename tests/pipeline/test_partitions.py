"""A batch is a transaction in each partition, and a crash in between replays what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, on
from streamproc.kinesis.records import Record
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.decode import decode_batch, split_batch
from streamproc.pipeline.engine import Engine, Moved, ShardHalted
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON, Position
from streamproc.processor import key_text
from streamproc.state.cache import CellCache
from streamproc.state.keys import Keys, partition_of_key, partition_of_text
from streamproc.state.store import Commit, CommitResult
from streamproc.testing import MemoryStateStore

PARTITIONS = 3


class Moves(Event, id="move_id"):
    move_id: str
    sku: str
    locations: tuple[str, ...] = ()


class Noted(Event, id="note_id"):
    note_id: str


class Log(Processor[list[str]]):
    """Notes each move at its stock, and each note nowhere."""

    policy = Policy(attempts=1)

    @on(Moves, keys=lambda event: [(event.sku, where) for where in event.locations or ["-"]])
    def move(self, event: Moves, ctx: Context[list[str]]) -> None:
        for key in list(ctx.states):
            ctx.states[key] = [*ctx.states[key], event.move_id]


class Pair(Processor[int]):
    """Takes each move by two keys."""

    @on(Moves, keys=lambda event: [event.sku, *event.locations])
    def move(self, event: Moves, ctx: Context[int]) -> None:
        for key in ctx.states:
            ctx.states[key] += 1


class Notes(Processor):
    """Handles events by no key."""

    @on(Noted)
    def note(self, event: Noted, ctx: Context) -> None:
        ctx.emit(event)


class Halts(Log):
    """Stops at a move whose name says so."""

    name = "log"
    policy = Policy(attempts=1, then="halt")

    @on(Moves, keys=lambda event: [(event.sku, "-")])
    def move(self, event: Moves, ctx: Context[list[str]]) -> None:
        if event.move_id.startswith("stop"):
            raise RuntimeError("stop")
        super().move(event, ctx)


class Node(MemoryStateStore):
    """A partition's store that may be told to die at its next commit, before or after it."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition=partition)
        self.dies: str | None = None
        self.commits = 0

    async def commit(self, commit: Commit) -> CommitResult:
        if self.dies == "before":
            raise Killed
        result = await super().commit(commit)
        self.commits += 1
        if self.dies == "after":
            raise Killed
        return result


class Killed(Exception):
    """The worker is dead."""


class Workers:
    """Successive workers of one shard over the stores of all partitions."""

    def __init__(self, *processors: Processor[Any], partitions: int = PARTITIONS) -> None:
        self.stores = tuple(Node(partition) for partition in range(partitions))
        self.engine = self._engine(processors)
        self.epoch = 0

    def _engine(self, processors: Sequence[Processor[Any]]) -> Engine:
        return Engine(
            group="test",
            stream="s",
            routes=Routes(processors, [store.keys for store in self.stores]),
            stores=self.stores,
            cache=CellCache(1 << 20),
            gate=KeyGate(),
        )

    async def take(self, *processors: Processor[Any]) -> Transactor:
        """Return a new worker's transactor, with nothing in memory."""
        self.epoch += 1
        self.engine = self._engine(processors or self.engine.routes.processors)
        for store in self.stores:
            store.dies = None
        adopted = [await s.adopt("s/shard", self.epoch, TRIM_HORIZON) for s in self.stores]
        starts = [ChainStart(each.position or TRIM_HORIZON, each.timers) for each in adopted]
        return Transactor(self.engine, "shard", self.epoch, starts)

    def moves(self, sku: str, location: str = "-") -> list[str]:
        text = key_text((sku, location))
        store = self.stores[partition_of_key(text, len(self.stores))]
        raw = store.stored(store.keys.state_prefix("log") + text)
        return msgspec.json.decode(raw or b"[]")  # type: ignore[no-any-return]

    def positions(self) -> list[str]:
        return [str(store.dump()["positions"]["s/shard"][1]) for store in self.stores]


def record(number: int, event: Event, key: str = "pk") -> Record:
    data = msgspec.json.encode({"type": type(event).__event_type__, "data": event})
    return Record(str(number), 0.0, data, key)


def skus(count: int) -> list[str]:
    """Return an SKU of each partition, `count` times around."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        sku = f"sku-{number}"
        number += 1
        if partition_of_text(sku, PARTITIONS) == len(found) % PARTITIONS:
            found.append(sku)
    return found


def stream(count: int, first: int = 1) -> list[Record]:
    """Return moves that go round the partitions."""
    names = skus(PARTITIONS)
    return [
        record(number, Moves(f"m{number}", names[number % PARTITIONS]))
        for number in range(first, first + count)
    ]


def expected(count: int) -> dict[str, list[str]]:
    return {
        sku: [f"m{n}" for n in range(1, count + 1) if n % PARTITIONS == at]
        for at, sku in enumerate(skus(PARTITIONS))
    }


async def test_each_partition_commits_its_own_events_and_reaches_the_batchs_end() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    await shard.process(stream(9))
    assert {sku: workers.moves(sku) for sku in skus(PARTITIONS)} == expected(9)
    assert workers.positions() == ["9:0"] * PARTITIONS
    assert shard.statistics.records == shard.statistics.processed == 9


@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("partition", range(PARTITIONS))
async def test_a_worker_killed_between_two_partitions_replays_only_what_is_missing(
    partition: int, dies: str
) -> None:
    workers = Workers(Log())
    shard = await workers.take()
    records = stream(30)
    await shard.process(records[:6])
    workers.stores[partition].dies = dies
    with pytest.raises(Killed):
        await shard.process(records[6:18])
    commits = [store.commits for store in workers.stores]
    successor = await workers.take()
    at = int(successor.position.sequence)
    await successor.process(records[at:24])
    await successor.process(records[24:])
    assert {sku: workers.moves(sku) for sku in skus(PARTITIONS)} == expected(30)
    assert workers.positions() == ["30:0"] * PARTITIONS
    assert successor.statistics.duplicates == 0, "what is committed is skipped, not looked up"
    done = sum(len(m) for m in expected(30).values())
    assert successor.statistics.processed == done - 6 - 4 * sum(now > 1 for now in commits), (
        "only what is missing was processed again"
    )


async def test_a_partition_without_events_is_left_behind_and_brought_along() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    first, *_ = skus(PARTITIONS)
    await shard.process([record(n, Moves(f"m{n}", first)) for n in range(1, 4)])
    assert workers.positions() == ["3:0", "TRIM_HORIZON", "TRIM_HORIZON"]
    assert shard.position == TRIM_HORIZON, "a checkpoint is never ahead of a partition"
    assert shard.is_uneven
    await shard.advance()
    assert workers.positions() == ["3:0"] * 3
    assert shard.position == Position("3")
    assert not shard.is_uneven
    assert shard.statistics.records == 3


async def test_a_partition_that_was_left_behind_goes_on_from_its_own_position() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    one, two, _ = skus(PARTITIONS)
    await shard.process([record(1, Moves("a", one))])
    await shard.process([record(2, Moves("b", two))])
    assert workers.positions() == ["1:0", "2:0", "TRIM_HORIZON"]
    assert (workers.moves(one), workers.moves(two)) == (["a"], ["b"])


async def test_a_partition_that_moved_stops_the_others_and_reading_goes_back_to_the_least() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    records = stream(12)
    await shard.process(records[:3])
    behind = workers.stores[1].dump()["positions"]["s/shard"]
    await shard.process(records[3:6])
    workers.stores[1]._owned["s/shard"].position = behind[1]
    with pytest.raises(Moved):
        await shard.process(records[6:9])
    adopted = [await s.adopt("s/shard", workers.epoch, None) for s in workers.stores]
    shard.rewind([ChainStart(each.position or TRIM_HORIZON) for each in adopted])
    workers.engine.cache.clear()
    assert shard.position == Position("3")
    await shard.process(records[3:])
    assert workers.positions() == ["12:0"] * PARTITIONS
    for sku, moves in expected(12).items():
        assert workers.moves(sku) == moves


async def test_halting_commits_nothing_after_the_event_in_its_partition() -> None:
    workers = Workers(Halts())
    shard = await workers.take()
    names = skus(PARTITIONS)
    records = [record(n, Moves(f"m{n}", names[n % 3])) for n in range(1, 10)]
    records[4] = record(5, Moves("stop", names[2]))
    with pytest.raises(ShardHalted, match="the event at 5"):
        await shard.process(records)
    assert workers.moves(names[2]) == ["m2"]
    assert workers.moves(names[0]) == ["m3", "m6", "m9"]
    assert workers.positions() == ["9:0", "9:0", "4:0"]
    assert shard.position == Position("4")
    mended = await workers.take(Log())
    await mended.process(records[4:])
    assert workers.moves(names[2]) == ["m2", "stop", "m8"]
    assert workers.moves(names[0]) == ["m3", "m6", "m9"]
    assert workers.moves(names[1]) == ["m1", "m4", "m7"]


async def test_the_earliest_of_several_halting_events_decides() -> None:
    workers = Workers(Halts())
    shard = await workers.take()
    names = skus(PARTITIONS)
    records = [record(n, Moves(f"m{n}", names[n % 3])) for n in range(1, 10)]
    records[4] = record(5, Moves("stop", names[2]))
    records[6] = record(7, Moves("stop too", names[1]))
    with pytest.raises(ShardHalted, match="the event at 5"):
        await shard.process(records)
    assert workers.positions() == ["9:0", "4:0", "4:0"]


async def test_an_event_whose_keys_lie_apart_is_a_dead_letter_that_says_what_to_do() -> None:
    workers = Workers(Pair())
    shard = await workers.take()
    one, two, _ = skus(PARTITIONS)
    await shard.process([record(1, Moves("apart", one, (two,))), record(2, Moves("near", one))])
    letters = [letter for store in workers.stores for letter in store.dead_letters]
    assert [letter["reason"] for letter in letters] == [b"cross-partition"]
    assert b"emit an event with a key of its own for each" in letters[0]["error"]
    assert (shard.statistics.dead_letters, shard.statistics.processed) == (1, 1)


async def test_states_that_share_the_first_part_of_their_key_lie_together() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    places = [f"location-{n}" for n in range(20)]
    await shard.process([record(1, Moves("m", "sku|%-1", tuple(places)))])
    assert [workers.moves("sku|%-1", place) for place in places] == [["m"]] * 20


async def test_an_event_without_keys_goes_by_its_id_whatever_its_partition_key() -> None:
    workers = Workers(Notes())
    shard = await workers.take()
    ids = [f"n{n}" for n in range(30)]
    await shard.process([record(n + 1, Noted(each), f"a{n}") for n, each in enumerate(ids)])
    await shard.process([record(n + 101, Noted(each), f"b{n}") for n, each in enumerate(ids)])
    assert shard.statistics.duplicates == shard.statistics.processed == 30
    assert all(store.outbox for store in workers.stores), "they are spread over all partitions"


async def test_what_is_no_event_goes_by_its_partition_key() -> None:
    workers = Workers(Log())
    shard = await workers.take()
    await shard.process([Record(str(n), 0.0, b"{", f"pk-{n}") for n in range(1, 31)])
    for partition, store in enumerate(workers.stores):
        keys = [letter["partition_key"].decode() for letter in store.dead_letters]
        assert keys == [
            f"pk-{n}" for n in range(1, 31) if partition_of_text(f"pk-{n}", 3) == partition
        ]
    assert shard.statistics.dead_letters == shard.statistics.records == 30


class Later(Processor):
    """Schedules a move of the SKU that its location names."""

    name = "later"
    policy = Policy(attempts=1)

    @on(Moves, key="sku")
    def move(self, event: Moves, ctx: Context) -> None:
        for sku in event.locations:
            ctx.schedule(ctx.event_time, Moves(event.move_id + "!", sku), id=sku, clock="wall")


async def test_what_is_scheduled_must_lie_in_the_same_partition() -> None:
    workers = Workers(Later())
    shard = await workers.take()
    one, two, _, near, *_ = skus(4)
    await shard.process(
        [record(1, Moves("apart", one, (two,))), record(2, Moves("m", one, (near,)))]
    )
    letters = [letter for store in workers.stores for letter in store.dead_letters]
    assert [letter["event_id"] for letter in letters] == [b"apart"]
    assert b"lies in another partition" in letters[0]["error"]
    assert shard.timers_pending == 1
    await shard.fire()
    assert shard.timers_pending == 0
    assert (shard.statistics.timers_fired, shard.statistics.timers_failed) == (1, 0)


async def test_timers_of_all_partitions_fire_where_they_lie() -> None:
    workers = Workers(Later())
    shard = await workers.take()
    names = skus(PARTITIONS)
    await shard.process([record(n, Moves(f"m{n}", sku, (sku,))) for n, sku in enumerate(names, 1)])
    assert [store.dump()["timers"] != {} for store in workers.stores] == [True] * PARTITIONS
    assert shard.timers_due_in() == 0
    await shard.fire()
    assert shard.timers_due_in() is None
    assert shard.statistics.timers_fired == PARTITIONS


@given(
    parts=st.lists(st.text(max_size=6), min_size=1, max_size=3),
    processor=st.text(min_size=1, max_size=4).filter(lambda name: not set(name) & set("{}:\n ")),
    partition=st.integers(0, 1023),
)
def test_no_key_text_changes_the_slot(parts: list[str], processor: str, partition: int) -> None:
    keys = Keys("group", partition)
    try:
        text = key_text(tuple(parts))
    except UnicodeError:
        return
    tags = {
        _hash_tag(name)
        for name in (
            keys.state_prefix(processor) + text, keys.seen(7), keys.positions, keys.outbox,
            keys.dead_letters, keys.incarnation, keys.relay,
        )
    }  # fmt: skip
    assert tags == {f"group:{partition}"}


def _hash_tag(key: str) -> str:
    """Return what Redis Cluster hashes (cluster specification, "Hash tags")."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


@given(
    kinds=st.lists(st.sampled_from(["move", "note", "broken", "unknown", "again"]), max_size=40),
    partitions=st.integers(2, 8),
)
def test_every_record_belongs_to_exactly_one_partition(kinds: list[str], partitions: int) -> None:
    keys = [Keys("g", partition) for partition in range(partitions)]
    routes = Routes([Log(), Notes()], keys)
    records = []
    for number, kind in enumerate(kinds):
        event: Event = Moves(f"m{number}", f"sku{number % 7}", ("a", "b"))
        if kind == "note":
            event = Noted(f"n{number}")
        elif kind == "again":
            event = Moves("m0", "sku0", ("a", "b"))
        made = record(number, event, f"pk{number}")
        if kind == "broken":
            made = msgspec.structs.replace(made, data=b"[")
        elif kind == "unknown":
            made = msgspec.structs.replace(made, data=b'{"type":"Other","data":{}}')
        records.append(made)
    batch = decode_batch(
        records, routes, CellCache(1 << 20), stream="s", shard="x", dead_letter_unknown=False
    )
    shares = split_batch(batch, partitions)
    owned = [each for share in shares.values() for each in share.own]
    assert sorted(owned, key=lambda r: int(r.sequence_number)) == records
    for partition, share in shares.items():
        assert all(item.partition == partition for item in share.items)
        assert all(name.startswith(keys[partition].prefix) for name in share.cells)
        assert len(share.items) + len(share.dead) + len(share.unknown) <= len(share.own)
        assert share.bytes == sum(len(each.data) for each in share.own)
    assert batch.bytes == sum(len(each.data) for each in records)
    assert sum(len(share.items) for share in shares.values()) == len(batch.items)
    assert sum(len(share.cells) for share in shares.values()) == len(batch.cells)
