"""The reader over aggregates of the KPL."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from streamproc.kinesis.errors import (
    ExpiredIteratorError,
)
from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.records import HashKeyRange, Record
from streamproc.position import Position

from .fakes import record
from .kpl import User, aggregate, hash_of
from .reading import CONFIG, reading, stream


def packed(number: int, *keys: str) -> Record:
    """Return record `number`, an aggregate of one user record for each key."""
    users = [User(key, b"%d" % at) for at, key in enumerate(keys)]
    return Record(str(number), 1.5, aggregate(users), "whole")


def places(fetched: Fetched) -> list[tuple[str, int]]:
    return [(record.sequence_number, record.sub) for record in fetched.records]


@pytest.mark.parametrize("passed", range(3))
async def test_a_reader_goes_on_inside_an_aggregate(passed: int) -> None:
    kinesis = stream(2)
    kinesis.records.insert(1, packed(2, "a", "b", "c"))
    kinesis.records[2] = record(3)
    async with reading(kinesis, Position("2", passed)) as rig:
        assert places(await rig.take()) == [("2", sub) for sub in range(passed + 1, 3)] + [("3", 0)]
        assert rig.reader.statistics().aggregates == 1


async def test_an_aggregate_that_was_read_is_not_read_again_when_an_iterator_expires() -> None:
    kinesis = stream(1, per_call=1)
    kinesis.records.append(packed(2, "a", "b"))
    kinesis.records.append(record(3))
    async with reading(kinesis) as rig:
        await rig.until(lambda: rig.reader.statistics().records == 3)
        kinesis.failures.append(ExpiredIteratorError("planned"))
        taken = [place for _ in range(3) for place in places(await rig.take())]
        assert taken == [("1", 0), ("2", 0), ("2", 1), ("3", 0)]


@pytest.mark.parametrize(("mode", "kept"), [("drop", 1), ("keep", 2)])
async def test_what_belongs_to_another_shard_is_dropped_or_kept(
    mode: Literal["drop", "keep"], kept: int
) -> None:
    kinesis = stream(0)
    keys = sorted("abcdefgh", key=hash_of)
    kinesis.records.append(packed(1, keys[0], keys[-1]))
    kinesis.records.append(record(2))
    middle = HashKeyRange("0", str(hash_of(keys[0])))
    config = msgspec.structs.replace(CONFIG, out_of_range=mode)
    async with reading(kinesis, config=config, hash_range=middle) as rig:
        fetched = await rig.take()
        assert places(fetched) == [("1", sub) for sub in range(kept)] + [("2", 0)]
        statistics = rig.reader.statistics()
        assert statistics.out_of_range == 2 - kept
        assert statistics.records == kept + 1


async def test_an_answer_of_nothing_but_strays_is_passed_over() -> None:
    kinesis = stream(0, per_call=1)
    kinesis.records += [packed(1, "a"), record(2)]
    elsewhere = HashKeyRange(str(hash_of("a") + 1), str(hash_of("a") + 1))
    async with reading(kinesis, hash_range=elsewhere) as rig:
        assert places(await rig.take()) == [("2", 0)]
        assert rig.reader.statistics().out_of_range == 1
