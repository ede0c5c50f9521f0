"""A group's share of a shard, as a rule and with three groups on one shard."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.config import ReadConfig
from streamproc.kinesis.allowance import SHARD_BYTES_PER_SECOND, Allowance
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import ThrottledError
from streamproc.kinesis.reader import ShardReader
from streamproc.position import TRIM_HORIZON
from tests import virtual_time

from .fakes import SHARD, FakeKinesis, LoopTime, record

STEPS = st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10_000_000)), max_size=50)


@given(rate=st.floats(1.0, 2e6), steps=STEPS)
def test_no_more_is_read_than_the_rate_allows(rate: float, steps: list[tuple[float, int]]) -> None:
    """What was read before a call that was waited for is at most rate * (time + 1 s)."""
    allowance, now, read = Allowance(rate, rate, 0.0), 0.0, 0
    for pause, size in steps:
        now += max(pause, allowance.wait(now))
        assert read <= rate * (now + 1.0) * (1 + 1e-9) + 1e-3
        allowance = allowance.after(now, size)
        read += size


@given(rate=st.floats(1.0, 2e6), steps=STEPS)
def test_whoever_has_waited_need_not_wait_again(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    allowance, now = Allowance(rate, rate, 0.0), 0.0
    for pause, size in steps:
        now += pause
        allowance = allowance.after(now, size)
    assert allowance.wait(now + allowance.wait(now)) == pytest.approx(0.0, abs=1e-6)


def test_an_answer_is_asked_for_that_pays_for_itself() -> None:
    quarter = Allowance(SHARD_BYTES_PER_SECOND / 4, 0.0, 0.0)
    assert quarter.records(interval=0.8, record_bytes=400) == 1_000
    assert quarter.records(interval=0.8, record_bytes=1e9) == 1


class LimitedShard(FakeKinesis):
    """One shard with Kinesis's limits, whoever calls: 5 calls and 2 MB a second, bursts of 10 MB.

    Attributes:
        refused: calls over a limit.
        read: bytes given away.
    """

    def __init__(self, count: int, size: int) -> None:
        super().__init__(LoopTime(), per_call=10_000)
        self.records = [record(number, size) for number in range(1, count + 1)]
        self.refused = 0
        self.read = 0
        self._recent: deque[float] = deque()
        self._owed_until = 0.0

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        now = virtual_time.now()
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if len(self._recent) >= 5 or now < self._owed_until:
            self.refused += 1
            raise ThrottledError("over the limit")
        self._recent.append(now)
        result = await super().get_records(iterator, limit)
        size = sum(len(each.data) for each in result.records)
        self.read += size
        # What was read beyond a second's worth is owed before the next call.
        start = max(self._owed_until, now - 1.0)
        self._owed_until = start + size / SHARD_BYTES_PER_SECOND
        return result


def read_by_groups(
    groups: int, config: ReadConfig, seconds: float
) -> tuple[LimitedShard, list[int]]:
    """Let groups read one shard that is far behind; return it and the records of each group."""

    async def main() -> tuple[LimitedShard, list[int]]:
        shard = LimitedShard(200_000, 1_000)
        readers = [
            ShardReader(
                shard, SHARD, TRIM_HORIZON, ByteBudget(1 << 26), config, rng=random.Random(n)
            )
            for n in range(groups)
        ]
        tasks = [asyncio.create_task(reader.run()) for reader in readers]

        async def consume(reader: ShardReader) -> None:
            while True:
                reader.release(await reader.next())

        tasks += [asyncio.create_task(consume(reader)) for reader in readers]
        await asyncio.sleep(seconds)
        counts = [reader.statistics().records for reader in readers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return shard, counts

    return virtual_time.run(main())


@pytest.mark.parametrize(("share", "refused"), [(1 / 3, 0.15), (0.3, 0.05)])
def test_three_groups_that_share_a_shard_stay_below_its_limits(
    share: float, refused: float
) -> None:
    shard, counts = read_by_groups(3, ReadConfig(share=share), 60.0)
    assert len(shard.calls) <= 5 * 60 + 5
    assert shard.read <= SHARD_BYTES_PER_SECOND * 61
    # Shares that add up to all there is leave no room for calls that meet in one second.
    assert shard.refused < refused * len(shard.calls)
    assert min(counts) > 0.85 * max(counts), "nobody is left behind"
    assert shard.read > 0.75 * SHARD_BYTES_PER_SECOND * 60, "and little is left unused"


def test_groups_that_take_the_whole_throttle_each_other_and_go_on_all_the_same() -> None:
    shard, counts = read_by_groups(3, ReadConfig(), 60.0)
    assert shard.refused > 0.2 * len(shard.calls)
    assert min(counts) > 0


def test_a_share_spaces_the_calls_at_the_tip() -> None:
    async def main() -> None:
        shard = LimitedShard(0, 0)
        reader = ShardReader(shard, SHARD, TRIM_HORIZON, ByteBudget(1 << 26), ReadConfig(share=0.2))
        task = asyncio.create_task(reader.run())
        await asyncio.sleep(20.5)
        assert len(shard.calls) == pytest.approx(20, abs=1)
        reader.close()
        await asyncio.wait([task])

    virtual_time.run(main())
