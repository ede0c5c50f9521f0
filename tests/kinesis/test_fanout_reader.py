"""The reader by enhanced fan-out over a fake consumer, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.errors import (
    FanOutUnavailableError,
    NotFoundError,
    ReaderClosedError,
    TransientError,
)
from streamproc.kinesis.fanout import PushedEvent
from streamproc.kinesis.fanout_reader import FanOutReader
from streamproc.kinesis.polling import Mode
from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.records import ChildShard, HashKeyRange
from streamproc.position import LATEST, TRIM_HORIZON, Position

from .fakes import SHARD, FakeKinesis, VirtualTime, record

CHILD = ChildShard("shardId-000000000001", [SHARD], HashKeyRange("0", "9"))
IN_USE = TransientError("ResourceInUseException: planned")


def event(*numbers: int, continuation: str | None = "", bytes: int = 100) -> PushedEvent:
    """Return an event of these records, which goes on after the last of them."""
    after = str(numbers[-1]) if numbers and continuation == "" else continuation
    return PushedEvent(
        records=[record(number) for number in numbers],
        continuation=after,
        millis_behind_latest=0,
        wire_bytes=bytes,
    )


END = PushedEvent(records=[], continuation=None, millis_behind_latest=0, child_shards=[CHILD])


class FakeSubscription:
    """Gives what is in `events`: events, errors to raise, None for its end; then it is silent."""

    def __init__(self, events: deque[PushedEvent | Exception | None]) -> None:
        self.events = events
        self.taken = 0
        self.closed = asyncio.Event()

    async def next(self) -> PushedEvent | None:
        await asyncio.sleep(0)
        if self.closed.is_set():
            return None
        if not self.events:
            await self.closed.wait()
            return None
        self.taken += 1
        given = self.events.popleft()
        if isinstance(given, Exception):
            raise given
        return given

    def close(self) -> None:
        self.closed.set()


class FakeFanOut:
    """Gives one subscription after the other; an exception in the list refuses the call."""

    def __init__(self, *given: list[PushedEvent | Exception | None] | Exception) -> None:
        self.given = deque(given)
        self.asked: list[tuple[Position, bool]] = []
        self.opened: list[FakeSubscription] = []

    async def subscribe(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> FakeSubscription:
        assert shard_id == SHARD
        self.asked.append((position, inclusive))
        given = self.given.popleft() if self.given else []
        if isinstance(given, Exception):
            raise given
        self.opened.append(FakeSubscription(deque(given)))
        return self.opened[-1]


@dataclass
class Rig:
    fan_out: FakeFanOut
    time: VirtualTime
    reader: FanOutReader
    task: asyncio.Task[None]
    budget: ByteBudget
    gave_up: list[bool] = field(default_factory=list)

    async def take(self) -> Fetched:
        fetched = await self.reader.next()
        self.reader.release(fetched)
        return fetched

    async def numbers(self, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            taken += [int(each.sequence_number) for each in (await self.take()).records]
        return taken

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to be")


@asynccontextmanager
async def reading(
    fan_out: FakeFanOut,
    start: Position = TRIM_HORIZON,
    *,
    budget: int = 10_000_000,
    kinesis: FakeKinesis | None = None,
) -> AsyncIterator[Rig]:
    time = VirtualTime()
    shared = ByteBudget(budget)
    gave_up: list[bool] = []
    reader = FanOutReader(
        fan_out,
        kinesis or FakeKinesis(time),
        SHARD,
        start,
        shared,
        ReadConfig(),
        on_unavailable=lambda: gave_up.append(True),
        clock=time.clock,
        wall_clock=lambda: 5_000.0,
        sleep=time.sleep,
        rng=random.Random(1),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.run())
        yield Rig(fan_out, time, reader, task, shared, gave_up)
        task.cancel()
    assert shared.statistics().accounts == 0
    assert all(subscription.closed.is_set() for subscription in fan_out.opened)


async def test_events_are_handed_over_in_order() -> None:
    async with reading(FakeFanOut([event(1, 2), event(), event(3)])) as rig:
        assert await rig.numbers(3) == [1, 2, 3]
        assert rig.fan_out.asked == [(TRIM_HORIZON, False)]
        assert rig.reader.statistics().mode is Mode.PUSH
        assert rig.reader.statistics().records == 3


async def test_a_subscription_that_ends_after_its_five_minutes_is_followed_at_once() -> None:
    fan_out = FakeFanOut([event(1), event(2), None], [event(3)])
    async with reading(fan_out) as rig:
        assert await rig.numbers(3) == [1, 2, 3]
        assert fan_out.asked == [(TRIM_HORIZON, False), (Position("2"), False)]
        assert rig.time.sleeps == []


async def test_an_event_without_records_moves_the_place_to_go_on_at() -> None:
    fan_out = FakeFanOut([event(1), event(continuation="77"), IN_USE], [event(78)])
    async with reading(fan_out) as rig:
        assert await rig.numbers(2) == [1, 78]
        assert fan_out.asked[1] == (Position("77"), False)


async def test_a_start_inside_an_aggregate_reads_its_record_once_more() -> None:
    async with reading(FakeFanOut([event(3, 4)]), Position("3")) as rig:
        assert await rig.numbers(1) == [4]
        assert rig.fan_out.asked == [(Position("3"), True)]


async def test_a_start_at_latest_leaves_no_gap_when_the_subscription_breaks() -> None:
    fan_out = FakeFanOut([IN_USE], [event(1)])
    async with reading(fan_out, LATEST) as rig:
        assert await rig.numbers(1) == [1]
        assert [asked for asked, _ in fan_out.asked] == [
            LATEST,
            Position("AT_TIMESTAMP", timestamp=4_999.0),
        ]


async def test_a_shard_that_is_in_use_is_asked_for_once_a_second_at_most() -> None:
    fan_out = FakeFanOut(IN_USE, IN_USE, [event(1)])
    async with reading(fan_out) as rig:
        assert await rig.numbers(1) == [1]
        assert len(rig.time.sleeps) == 2
        assert min(rig.time.sleeps) >= 1.0
        assert rig.reader.statistics().transient_errors == 2


async def test_the_shards_end_comes_after_its_records_and_names_the_children() -> None:
    async with reading(FakeFanOut([event(1), END])) as rig:
        assert await rig.numbers(1) == [1]
        last = await rig.take()
        assert last.is_end
        assert last.child_shards == [CHILD]
        assert rig.reader.statistics().mode is Mode.ENDED


async def test_a_shard_that_was_trimmed_has_ended() -> None:
    kinesis = FakeKinesis(VirtualTime())
    kinesis.shards = []
    async with reading(FakeFanOut(NotFoundError("planned")), kinesis=kinesis) as rig:
        last = await rig.take()
        assert last.is_end
        assert last.child_shards == []


async def test_a_stream_that_is_gone_is_an_error() -> None:
    kinesis = FakeKinesis(VirtualTime())
    kinesis.exists = False
    async with reading(FakeFanOut(NotFoundError("planned")), kinesis=kinesis) as rig:
        with pytest.raises(StreamError):
            await rig.reader.next()


async def test_no_event_is_taken_before_there_is_room_for_it() -> None:
    events = [event(number, bytes=600_000) for number in range(1, 6)]
    async with reading(FakeFanOut(list(events)), budget=1_200_000) as rig:
        await rig.until(lambda: bool(rig.fan_out.opened) and rig.fan_out.opened[0].taken == 2)
        for _ in range(200):
            await asyncio.sleep(0)
        assert rig.fan_out.opened[0].taken == 2
        assert rig.budget.statistics().kept == 1_200_000
        assert await rig.numbers(5) == [1, 2, 3, 4, 5]


async def test_a_rewind_drops_what_is_under_way_and_subscribes_anew() -> None:
    fan_out = FakeFanOut([event(1), event(2), event(3)], [event(2), event(3)])
    async with reading(fan_out) as rig:
        await rig.until(lambda: rig.reader.statistics().records == 3)
        await rig.reader.rewind(Position("1"))
        assert await rig.numbers(2) == [2, 3]
        assert fan_out.asked[1] == (Position("1"), True)
        assert fan_out.opened[0].closed.is_set()


async def test_a_rewind_calls_back_from_the_end() -> None:
    async with reading(FakeFanOut([event(1), END], [event(2)])) as rig:
        await rig.numbers(1)
        assert (await rig.take()).is_end
        await rig.reader.rewind(Position("1"))
        assert await rig.numbers(1) == [2]


async def test_subscriptions_that_keep_failing_are_given_up() -> None:
    async with reading(FakeFanOut(*[IN_USE] * 9)) as rig:
        with pytest.raises(FanOutUnavailableError, match="polling instead"):
            await rig.reader.next()
        assert len(rig.fan_out.asked) == 5
        assert rig.gave_up == [True]


async def test_a_refusal_for_good_gives_up_at_once() -> None:
    async with reading(FakeFanOut(StreamError("AccessDeniedException"))) as rig:
        with pytest.raises(FanOutUnavailableError, match="AccessDenied"):
            await rig.reader.next()
        assert len(rig.fan_out.asked) == 1


async def test_an_event_ends_a_row_of_failures() -> None:
    script: list[list[PushedEvent | Exception | None] | Exception] = []
    for number in range(1, 9):
        script += [IN_USE, [event(number), IN_USE]]
    async with reading(FakeFanOut(*script)) as rig:
        assert await rig.numbers(8) == list(range(1, 9))
        assert rig.gave_up == []


async def test_closing_ends_the_subscription_and_the_wait() -> None:
    async with reading(FakeFanOut([event(1)])) as rig:
        await rig.numbers(1)
        waiting = asyncio.create_task(rig.reader.next())
        await asyncio.sleep(0)
        rig.reader.close()
        with pytest.raises(ReaderClosedError):
            await waiting


async def test_a_subscription_that_says_nothing_for_35_seconds_is_given_up() -> None:
    fan_out = FakeFanOut([event(1)], [event(2)])
    async with reading(fan_out) as rig:
        started = asyncio.get_running_loop().time()
        assert await rig.numbers(2) == [1, 2]
        assert asyncio.get_running_loop().time() - started == 35.0
        assert fan_out.opened[0].closed.is_set()
        assert rig.reader.statistics().transient_errors == 1


async def test_a_slow_consumer_does_not_make_a_subscription_look_dead() -> None:
    events = [event(number, bytes=600_000) for number in range(1, 4)]
    async with reading(FakeFanOut([*events]), budget=600_000) as rig:
        await asyncio.sleep(120)
        assert await rig.numbers(3) == [1, 2, 3]
        assert rig.reader.statistics().transient_errors == 0
