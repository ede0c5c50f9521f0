"""Offering at a rate: what is due when does not hang on how long anything takes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.testing.localkinesis import LocalKinesisCore
from streamproc.testing.localkinesis.prepared import PreparedRecord, PreparedStream, prepare_record
from streamproc_benchmarks.open_loop import Offered, OpenLoop, Schedule


class Clock:
    """Moves when it is slept on, and when something takes its time."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class SlowStream(PreparedStream):
    """Takes `seconds` for each append, and notes when each came."""

    def __init__(self, core: LocalKinesisCore, clock: Clock, seconds: float) -> None:
        super().__init__(core, "s")
        self.calls: list[tuple[float, int]] = []
        self._seconds = seconds
        self._moves = clock

    def append(self, records: Iterable[PreparedRecord]) -> None:
        given = list(records)
        self.calls.append((self._moves.now, len(given)))
        super().append(given)
        self._moves.now += self._seconds


async def offer(count: int, rate: float, seconds: float = 0.0) -> tuple[Offered, SlowStream]:
    core = LocalKinesisCore()
    core.call("CreateStream", StreamName="s", ShardCount=2)
    clock = Clock()
    stream = SlowStream(core, clock, seconds)
    loop = OpenLoop(stream, rate, clock=clock, sleep=clock.sleep)
    await loop.run(prepare_record(f"k{number}", b"{}") for number in range(count))
    return loop.offered(), stream


def times(offered: Offered) -> list[float]:
    return sorted({due for load in offered.shards.values() for due, _ in load.groups})


async def test_records_are_offered_at_the_rate_in_groups_of_ten_ms() -> None:
    offered, stream = await offer(2_000, rate=1_000)
    assert [size for _, size in stream.calls] == [10] * 200
    assert [at for at, _ in stream.calls] == pytest.approx(times(offered))
    assert times(offered)[-1] - times(offered)[0] == pytest.approx(1.99)
    assert (offered.count, offered.sent_rate) == (2_000, 1_000)
    assert offered.late == pytest.approx(0, abs=1e-9)


async def test_a_slow_stream_moves_the_sending_but_not_the_due_times() -> None:
    # 0.1 s an append, where groups are due every 10 ms: the schedule must not wait for it.
    prompt, _ = await offer(2_000, rate=1_000)
    slow, stream = await offer(2_000, rate=1_000, seconds=0.1)
    assert times(slow) == times(prompt)
    assert stream.calls[-1][0] - stream.calls[0][0] == pytest.approx(19.9)
    assert slow.late == pytest.approx(20.0 - 1.99)
    assert slow.sent_rate == pytest.approx(100)


async def test_the_account_names_every_record_of_the_stream() -> None:
    offered, stream = await offer(500, rate=10_000)
    assert {shard: load.count for shard, load in offered.shards.items()} == stream.tips()
    for shard, load in offered.shards.items():
        expected = [str(stream.number(shard, at)) for at in range(load.count)]
        assert load.sequences() == expected


@given(st.floats(min_value=1, max_value=200_000), st.integers(min_value=0, max_value=10_000))
def test_groups_are_due_in_even_steps_that_keep_the_rate(rate: float, group: int) -> None:
    schedule = Schedule(rate, started=50.0)
    assert schedule.group >= 1
    assert schedule.due(0) == 50.0
    # Records due up to a group's time are never more than the rate allows, nor a group fewer.
    elapsed = schedule.due(group) - 50.0
    assert group * schedule.group == pytest.approx(elapsed * rate)
    assert schedule.due(group + 1) - schedule.due(group) == pytest.approx(schedule.group / rate)
