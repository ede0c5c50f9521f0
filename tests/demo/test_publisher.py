"""The producer: open loop, each key in order, every refusal made good."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

import pytest

from streamproc.kinesis.api import PutEntry, PutResult
from streamproc.kinesis.errors import ThrottledError
from streamproc_benchmarks.demo.publisher import Publisher, ShardLog
from streamproc_benchmarks.demo.workload import Record
from tests.virtual_time import run


class Stream:
    """A stream of one shard that refuses some entries, and some calls, by chance."""

    def __init__(self, refusals: float, takes_s: float = 0.0) -> None:
        self.taken: list[PutEntry] = []
        self.calls: list[list[PutEntry]] = []
        self._refusals = refusals
        self._takes_s = takes_s
        self._rng = Random(1)

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        await asyncio.sleep(self._takes_s)
        self.calls.append(list(entries))
        if self._rng.random() < self._refusals / 2:
            raise ThrottledError("too fast")
        return [self._put(entry) for entry in entries]

    def _put(self, entry: PutEntry) -> PutResult:
        if self._rng.random() < self._refusals:
            return PutResult(error_code="ProvisionedThroughputExceededException")
        self.taken.append(entry)
        return PutResult(shard_id="shardId-000000000000", sequence_number=str(len(self.taken)))


def records(count: int, keys: int) -> list[Record]:
    return [Record(str(n).encode(), f"key-{n % keys}", "event") for n in range(count)]


@pytest.mark.parametrize("refusals", [0.0, 0.3])
def test_every_record_is_taken_once_and_keys_keep_their_order(refusals: float) -> None:
    stream = Stream(refusals)
    publisher = Publisher(stream)

    run(publisher.publish(records(500, keys=7), rate=2_000))

    by_key: dict[str, list[int]] = defaultdict(list)
    for entry in stream.taken:
        by_key[entry.partition_key].append(int(entry.data))
    assert sorted(n for of_key in by_key.values() for n in of_key) == list(range(500))
    assert all(of_key == sorted(of_key) for of_key in by_key.values())
    assert (publisher.retried > 0) == (refusals > 0)


def test_no_call_has_two_records_of_a_key_or_more_than_500() -> None:
    stream = Stream(0)

    run(Publisher(stream).publish(records(3_000, keys=1_400), rate=1e9))

    assert max(len(call) for call in stream.calls) == 500
    for call in stream.calls:
        assert Counter(entry.partition_key for entry in call).most_common(1)[0][1] == 1


def test_the_rate_is_offered_however_long_calls_take() -> None:
    stream = Stream(0, takes_s=0.2)

    elapsed = run(_timed(Publisher(stream), records(2_000, keys=2_000), rate=1_000))

    assert elapsed == pytest.approx(2.0, abs=0.5)


def test_what_each_shard_took_is_known_by_sequence_number() -> None:
    publisher = Publisher(Stream(0))

    run(publisher.publish(records(9, keys=9), rate=1e9))

    log = publisher.shards["shardId-000000000000"]
    assert log.sequences == list(range(1, 10))
    assert log.between(2, 5) == Counter(event=3)
    assert log.between(-1, 9) == Counter(event=9)
    assert publisher.published == 9


def test_a_log_counts_between_two_positions_by_kind() -> None:
    log = ShardLog(sequences=[10, 20, 30, 40], kinds=["event", "poison", "duplicate", "event"])

    assert log.between(10, 30) == Counter(poison=1, duplicate=1)
    assert log.between(30, 30) == Counter()


async def _timed(publisher: Publisher, made: list[Record], rate: float) -> float:
    clock = asyncio.get_running_loop().time
    started = clock()
    await publisher.publish(made, rate)
    return clock() - started
