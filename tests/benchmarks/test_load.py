from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from streamproc.errors import StreamprocError
from streamproc.events.envelope import read_envelope
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult
from streamproc_benchmarks.load import Published, offer, tick_size
from streamproc_benchmarks.workloads import WORKLOADS, WorkloadName, make_entries, mean_bytes


class Stream:
    """Takes records, each call in `call_seconds` of a clock that only it and `sleep` move."""

    def __init__(self, call_seconds: float = 0.0, refuse_from: int | None = None) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, int]] = []
        self._call_seconds = call_seconds
        self._refuse_from = refuse_from
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        # A float may be too coarse for the last bit: never let the clock stand still.
        self.now += seconds + 1e-9

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        self.calls.append((self.now, len(entries)))
        self.now += self._call_seconds
        return [self._put() for _ in entries]

    def _put(self) -> PutResult:
        number = next(self._numbers)
        if self._refuse_from is not None and number >= self._refuse_from:
            return PutResult(error_code="Throttled", error_message="slow down")
        return PutResult(shard_id=f"shard-{number % 2}", sequence_number=str(number))


async def put(stream: Stream, count: int, rate: float | None) -> Published:
    entries = [PutEntry(data=b"{}", partition_key="k")] * count
    api = cast("KinesisApi", cast("Any", stream))
    return await offer(api, entries, rate, clock=stream.clock, sleep=stream.sleep)


async def test_records_are_offered_at_the_rate_in_ticks_of_ten_ms() -> None:
    stream = Stream()
    published = await put(stream, 2_000, rate=1_000)
    assert tick_size(1_000) == 10
    assert len(stream.calls) == 200
    assert {size for _, size in stream.calls} == {10}
    assert published.intended[-1] - published.intended[0] == pytest.approx(1.99)
    for (at, _), intended in zip(stream.calls, published.intended[::10], strict=True):
        assert at == pytest.approx(intended, abs=1e-6)


async def test_a_slow_server_moves_the_sending_but_not_the_intended_times() -> None:
    # 0.1 s a call, where a tick of 10 ms would be due ten times: the schedule must not wait.
    prompt, slow = Stream(), Stream(call_seconds=0.1)
    intended = (await put(prompt, 2_000, rate=1_000)).intended
    published = await put(slow, 2_000, rate=1_000)
    assert published.intended == intended
    # What became due meanwhile goes with the next call.
    assert slow.calls[1][1] == 100
    assert published.sent - published.started > 2.0


async def test_without_a_rate_records_go_in_full_calls() -> None:
    stream = Stream()
    await put(stream, 1_200, rate=None)
    assert [size for _, size in stream.calls] == [500, 500, 200]


async def test_the_order_of_publishing_is_kept_by_shard_and_in_all() -> None:
    published = await put(Stream(), 5, rate=None)
    assert published.shards == {"shard-0": ["0", "2", "4"], "shard-1": ["1", "3"]}
    assert [sequence for _, sequence in published.order] == ["0", "1", "2", "3", "4"]


async def test_a_refused_record_ends_the_load() -> None:
    with pytest.raises(StreamprocError, match="slow down"):
        await put(Stream(refuse_from=3), 5, rate=None)


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
