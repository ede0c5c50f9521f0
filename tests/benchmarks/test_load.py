from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from streamproc.errors import StreamprocError
from streamproc.events.envelope import read_envelope
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult
from streamproc_benchmarks.load import Published, fill
from streamproc_benchmarks.workloads import WORKLOADS, WorkloadName, make_entries, mean_bytes


class Stream:
    """Takes records until it refuses."""

    def __init__(self, refuse_from: int | None = None) -> None:
        self.calls: list[int] = []
        self._refuse_from = refuse_from
        self._numbers = itertools.count()

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        self.calls.append(len(entries))
        return [self._put() for _ in entries]

    def _put(self) -> PutResult:
        number = next(self._numbers)
        if self._refuse_from is not None and number >= self._refuse_from:
            return PutResult(error_code="Throttled", error_message="slow down")
        return PutResult(shard_id=f"shard-{number % 2}", sequence_number=str(number))


async def put(stream: Stream, count: int) -> Published:
    entries = [PutEntry(data=b"{}", partition_key="k")] * count
    return await fill(cast("KinesisApi", cast("Any", stream)), entries)


async def test_a_stream_is_filled_in_full_calls() -> None:
    stream = Stream()
    published = await put(stream, 1_200)
    assert stream.calls == [500, 500, 200]
    assert published.count == 1_200


async def test_the_order_of_publishing_is_kept_by_shard() -> None:
    published = await put(Stream(), 5)
    assert published.shards == {"shard-0": ["0", "2", "4"], "shard-1": ["1", "3"]}


async def test_a_refused_record_ends_the_load() -> None:
    with pytest.raises(StreamprocError, match="slow down"):
        await put(Stream(refuse_from=3), 5)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_events_are_cloud_events_of_about_405_bytes(workload: WorkloadName) -> None:
    entries = make_entries(workload, 2_000, seed=1)
    assert 400 <= mean_bytes(entries) <= 430
    ids = {read_envelope(entry.data).id for entry in entries}
    assert len(ids) == 2_000
    first = msgspec.json.decode(entries[0].data)
    assert first["specversion"] == "1.0"
    assert {"source", "type", "time", "datacontenttype", "data"} <= first.keys()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_seed_fixes_the_events(workload: WorkloadName) -> None:
    assert make_entries(workload, 50, seed=7) == make_entries(workload, 50, seed=7)
    assert make_entries(workload, 50, seed=7) != make_entries(workload, 50, seed=8)
