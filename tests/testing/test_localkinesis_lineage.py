"""Whatever is split and merged: nothing is lost, doubled or out of order."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.testing import LocalKinesisCore

from .clock import Clock

STREAM = "orders"
TOP_HASH = 2**128 - 1

# An action is (what, which open shard, where or how many); numbers are reduced to what is possible.
action = st.tuples(
    st.sampled_from(["put", "put", "split", "merge", "resize", "wait"]),
    st.integers(0, 100),
    st.integers(0, TOP_HASH),
)


def open_shards(core: LocalKinesisCore) -> list[dict[str, Any]]:
    answer = core.call("ListShards", StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})
    return sorted(answer["Shards"], key=lambda shard: bounds(shard)[0])


def bounds(shard: dict[str, Any]) -> tuple[int, int]:
    held = shard["HashKeyRange"]
    return int(held["StartingHashKey"]), int(held["EndingHashKey"])


def apply(core: LocalKinesisCore, clock: Clock, step: tuple[str, int, int], tag: int) -> None:
    what, which, number = step
    shards = open_shards(core)
    shard = shards[which % len(shards)]
    start, end = bounds(shard)
    match what:
        case "put":
            records = [
                {
                    "Data": b"%d" % (tag * 1000 + i),
                    "PartitionKey": f"key-{(number + i) % 7}",
                }
                for i in range(which % 5 + 1)
            ]
            answer = core.call("PutRecords", StreamName=STREAM, Records=records)
            assert answer["FailedRecordCount"] == 0
        case "split" if end - start > 4:
            middle = start + 2 + number % (end - start - 3)
            core.call(
                "SplitShard",
                StreamName=STREAM,
                ShardToSplit=shard["ShardId"],
                NewStartingHashKey=str(middle),
            )
        case "merge" if len(shards) > 1:
            at = which % (len(shards) - 1)
            core.call(
                "MergeShards",
                StreamName=STREAM,
                ShardToMerge=shards[at]["ShardId"],
                AdjacentShardToMerge=shards[at + 1]["ShardId"],
            )
        case "resize":
            lowest, highest = (len(shards) + 1) // 2, 2 * len(shards)
            core.call(
                "UpdateShardCount",
                StreamName=STREAM,
                TargetShardCount=lowest + number % (highest - lowest + 1),
                ScalingType="UNIFORM_SCALING",
            )
        case "wait":
            clock.advance(which / 100)


def read_shard(
    core: LocalKinesisCore, shard_id: str, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of a shard, and its children if it has ended."""
    iterator: str | None = core.call(
        "GetShardIterator",
        StreamName=STREAM,
        ShardId=shard_id,
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    records: list[dict[str, Any]] = []
    while iterator is not None:
        answer = core.call("GetRecords", ShardIterator=iterator, Limit=limit)
        records += answer["Records"]
        iterator = answer["NextShardIterator"]
        if iterator is not None and answer["MillisBehindLatest"] == 0:
            return records, []
    return records, answer["ChildShards"]


def follow_children(core: LocalKinesisCore, limit: int) -> Iterator[dict[str, Any]]:
    """Read a stream as a consumer does: the first shards, then children whose parents ended."""
    first = core.call("ListShards", StreamName=STREAM, ShardFilter={"Type": "AT_TRIM_HORIZON"})
    waiting = [shard["ShardId"] for shard in first["Shards"]]
    done: set[str] = set()
    while waiting:
        shard_id = waiting.pop()
        records, children = read_shard(core, shard_id, limit)
        assert shard_id not in done
        done.add(shard_id)
        yield from records
        waiting += [c["ShardId"] for c in children if done.issuperset(c["ParentShards"])]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.lists(action, max_size=25), st.integers(1, 20))
def test_a_reader_that_follows_children_reads_every_record_once_and_in_order(
    shards: int, steps: list[tuple[str, int, int]], limit: int
) -> None:
    clock = Clock()
    core = LocalKinesisCore(clock=clock)
    core.call("CreateStream", StreamName=STREAM, ShardCount=shards)
    put: list[str] = []
    for tag, step in enumerate(steps):
        apply(core, clock, step, tag)
        if step[0] == "put":
            put += [str(tag * 1000 + i) for i in range(step[1] % 5 + 1)]
    by_key: dict[str, list[int]] = {}
    numbers: dict[str, list[int]] = {}
    for record in follow_children(core, limit):
        key = record["PartitionKey"]
        by_key.setdefault(key, []).append(int(base64.b64decode(record["Data"])))
        numbers.setdefault(key, []).append(int(record["SequenceNumber"]))
    assert sorted(str(n) for values in by_key.values() for n in values) == sorted(put)
    assert all(values == sorted(values) for values in by_key.values())
    assert all(values == sorted(set(values)) for values in numbers.values())


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.lists(action, max_size=25))
def test_open_shards_cover_everything_and_numbers_grow_along_the_lineage(
    shards: int, steps: list[tuple[str, int, int]]
) -> None:
    clock = Clock()
    core = LocalKinesisCore(clock=clock)
    core.call("CreateStream", StreamName=STREAM, ShardCount=shards)
    for tag, step in enumerate(steps):
        apply(core, clock, step, tag)
        ranges = [bounds(shard) for shard in open_shards(core)]
        assert ranges[0][0] == 0
        assert ranges[-1][1] == TOP_HASH
        assert [end + 1 for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
    listed = core.call("ListShards", StreamName=STREAM)["Shards"]
    held = {shard["ShardId"]: shard["SequenceNumberRange"] for shard in listed}
    for shard in listed:
        start = int(held[shard["ShardId"]]["StartingSequenceNumber"])
        for parent in ("ParentShardId", "AdjacentParentShardId"):
            if parent in shard:
                assert int(held[shard[parent]]["EndingSequenceNumber"]) < start
        records, _ = read_shard(core, shard["ShardId"], 10_000)
        numbers = [int(record["SequenceNumber"]) for record in records]
        end = int(held[shard["ShardId"]].get("EndingSequenceNumber", 10**56))
        assert [start, *numbers] == sorted({start, *numbers})
        assert all(number <= end for number in numbers)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.lists(action, max_size=15))
def test_the_trim_horizon_is_always_covered(shards: int, steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    core = LocalKinesisCore(clock=clock)
    core.call("CreateStream", StreamName=STREAM, ShardCount=shards)
    for tag, step in enumerate(steps):
        apply(core, clock, step, tag)
        clock.advance(6 * 3600)
        answer = core.call("ListShards", StreamName=STREAM, ShardFilter={"Type": "AT_TRIM_HORIZON"})
        ranges = sorted(bounds(shard) for shard in answer["Shards"])
        assert ranges[0][0] == 0
        assert ranges[-1][1] == TOP_HASH
        assert [end + 1 for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
