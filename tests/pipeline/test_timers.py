"""Timers fire once, in their place, and never after they were cancelled or replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, Reject, on
from streamproc.errors import StateStoreError
from streamproc.pipeline.timers import places
from streamproc.state.store import Commit, CommitResult
from streamproc.testing import Harness

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Reserved(Event, id="reservation_id"):
    """A hold on a stock, until a time by a clock; `does` is what else its handler does."""

    reservation_id: str
    sku: str
    until: float = 0.0
    clock: str = "event"
    does: str = ""


class Expired(Event):
    reservation_id: str
    sku: str
    does: str = ""


class Released(Event):
    reservation_id: str


class Holds(Processor[list[str]]):
    """Notes what happens to a stock, in order."""

    policy = Policy(attempts=2, backoff=(0.0, 0.0))

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    @on(Reserved, key="sku")
    def reserve(self, event: Reserved, ctx: Context[list[str]]) -> None:
        ctx.state.append(f"+{event.reservation_id}")
        if event.does.startswith("cancel "):
            ctx.cancel(event.does.removeprefix("cancel "))
        if event.until:
            expired = Expired(event.reservation_id, event.sku, event.does)
            name = event.reservation_id.partition("/")[0]
            ctx.schedule(START + event.until, expired, id=name, clock=event.clock)  # type: ignore[arg-type]
        if event.does == "fail" and ctx.attempt == 1:
            raise RuntimeError("once")

    @on(Expired, key="sku")
    def expire(self, event: Expired, ctx: Context[list[str]]) -> None:
        self.times.append((ctx.event_time - START, ctx.arrival_time - START))
        ctx.state.append(f"-{event.reservation_id}")
        ctx.emit(Released(event.reservation_id))
        if event.does == "reject":
            raise Reject("no")
        if event.does == "again" and len(ctx.state) < 6:
            ctx.schedule(ctx.event_time + 10, event, id=event.reservation_id, clock="wall")
        if event.does.startswith("timer cancels "):
            ctx.cancel(event.does.removeprefix("timer cancels "))


class AsyncHolds(Holds):
    """The same in lanes."""

    name = "holds"

    @on(Reserved, key="sku")
    async def reserve(self, event: Reserved, ctx: Context[list[str]]) -> None:  # type: ignore[override]
        Holds.reserve(self, event, ctx)

    @on(Expired, key="sku")
    async def expire(self, event: Expired, ctx: Context[list[str]]) -> None:  # type: ignore[override]
        Holds.expire(self, event, ctx)


@pytest.fixture(params=[Holds, AsyncHolds])
def holds(request: pytest.FixtureRequest) -> Holds:
    return request.param()  # type: ignore[no-any-return]


async def test_a_timer_by_event_time_fires_before_the_first_event_that_reaches_it(
    holds: Holds,
) -> None:
    async with Harness(holds) as h:
        await h.send(Reserved("a", "s", until=10), time=START)
        await h.send(Reserved("b", "s"), time=START + 9.999)
        assert h.state("holds", "s") == ["+a", "+b"]
        late, reaching, after = (
            h.record(Reserved(name, "s"), time=START + at)
            for name, at in (("late", 1), ("reaching", 10), ("after", 11))
        )
        before = h.statistics.bytes
        await h.process(late, reaching, after)
        assert h.statistics.bytes - before == sum(len(r.data) for r in (late, reaching, after))
        assert h.state("holds", "s") == ["+a", "+b", "+late", "-a", "+reaching", "+after"]
        assert h.timers == []
        assert holds.times[0][0] == 10.0
        assert [each.time for each in h.emitted] == ["2026-01-01T00:00:10.000+00:00"]
        assert h.statistics.timers_fired == 1
        assert h.statistics.records == h.statistics.processed == 5


async def test_a_timer_by_the_wall_clock_fires_when_it_is_due_without_an_event(
    holds: Holds,
) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(
            Reserved("a", "s", until=10, clock="wall"), Reserved("b", "t", until=5.5, clock="wall")
        )
        assert [(t.id, t.at - START, t.clock, t.type) for t in h.timers] == [
            ("b", 5.5, "wall", "Expired"),
            ("a", 10.0, "wall", "Expired"),
        ]
        await h.advance(9.999)
        assert (h.state("holds", "s"), h.state("holds", "t")) == (["+a"], ["+b", "-b"])
        await h.advance(0.001)
        assert h.state("holds", "s") == ["+a", "-a"]
        assert holds.times == [(5.5, 5.5), (10.0, 10.0)]
        assert h.statistics.timer_late_seconds.counts[0] == 2


async def test_an_event_in_the_future_of_its_arrival_makes_nothing_due_early(holds: Holds) -> None:
    async with Harness(holds) as h:
        await h.send(Reserved("a", "s", until=100), time=START)
        record = h.record(Reserved("ahead", "s"), time=START + 1_000_000)
        await h.process(msgspec.structs.replace(record, approximate_arrival_timestamp=START + 50))
        assert h.state("holds", "s") == ["+a", "+ahead"]


async def test_a_timer_scheduled_in_the_past_of_its_own_batch_fires_right_after_it(
    holds: Holds,
) -> None:
    async with Harness(holds) as h:
        late = h.record(Reserved("a", "s", until=5), time=START + 20)
        await h.process(late, h.record(Reserved("b", "s"), time=START + 21))
        assert h.state("holds", "s") == ["+a", "+b", "-a"]


async def test_scheduling_an_id_again_replaces_it_also_by_the_other_clock(holds: Holds) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall"))
        await h.send(Reserved("a/2", "s", until=30, clock="event"), time=START + 1)
        await h.advance(20)
        assert [(t.at - START, t.clock) for t in h.timers] == [(30.0, "event")]
        await h.send(Reserved("b", "s"), time=START + 30)
        assert h.state("holds", "s") == ["+a", "+a/2", "-a/2", "+b"]


async def test_a_cancelled_timer_does_not_fire_and_cancelling_nothing_is_no_error(
    holds: Holds,
) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall"))
        await h.send(Reserved("b", "t", does="cancel a"), Reserved("c", "t", does="cancel never"))
        await h.advance(100)
        assert h.state("holds", "s") == ["+a"]


@pytest.mark.parametrize("does", ["cancel a", "replace"])
@pytest.mark.parametrize("sku", ["s", "other"])
async def test_a_timer_changed_earlier_in_the_batch_it_is_due_in_does_not_fire(
    holds: Holds, does: str, sku: str
) -> None:
    async with Harness(holds) as h:
        await h.send(Reserved("a", "s", until=10), time=START)
        changes = Reserved("x", sku, does=does)
        if does == "replace":
            changes = Reserved("a/x", sku, until=50)
        await h.process(
            h.record(changes, time=START + 5), h.record(Reserved("reach", "t"), time=START + 20)
        )
        assert "-a" not in h.state("holds", "s")
        assert [t.at - START for t in h.timers] == ([50.0] if does == "replace" else [])
        assert h.statistics.timers_fired == 0


async def test_a_timer_changed_after_its_place_in_the_batch_has_fired(holds: Holds) -> None:
    async with Harness(holds) as h:
        await h.send(Reserved("a", "s", until=10), time=START)
        await h.process(
            h.record(Reserved("reach", "t"), time=START + 20),
            h.record(Reserved("a/2", "s", until=50), time=START + 21),
        )
        assert h.state("holds", "s") == ["+a", "-a", "+a/2"]
        assert [t.at - START for t in h.timers] == [50.0]


async def test_a_timer_may_cancel_another_that_is_due_with_it(holds: Holds) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(
            Reserved("a", "s", until=10, clock="wall", does="timer cancels b"),
            Reserved("b", "t", until=10, clock="wall"),
        )
        h.now = START + 20
        await h.advance(0)
        assert (h.state("holds", "s"), h.state("holds", "t")) == (["+a", "-a"], ["+b"])
        assert h.timers == []


async def test_a_timer_that_schedules_itself_goes_on(holds: Holds) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall", does="again"))
        await h.advance(100)
        assert h.state("holds", "s") == ["+a", "-a", "-a", "-a", "-a", "-a"]
        assert [at for at, _ in holds.times] == [10.0, 20.0, 30.0, 40.0, 50.0]
        assert len({each.id for each in h.emitted}) == 5


async def test_a_failed_attempt_schedules_nothing(holds: Holds) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall", does="fail"))
        await h.advance(10)
        assert h.state("holds", "s") == ["+a", "-a"]
        assert h.statistics.timers_fired == 1


async def test_a_timer_that_fails_is_a_dead_letter_with_its_event_and_does_not_return(
    holds: Holds,
) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall", does="reject"))
        await h.advance(20)
        (letter,) = h.dead_letters
        assert (letter.reason, letter.event_type, letter.handler) == (
            "no",
            "Expired",
            "holds.expire",
        )
        envelope = msgspec.json.decode(letter.data)
        assert envelope["type"] == "Expired.v1"
        assert envelope["data"] == {"reservation_id": "a", "sku": "s", "does": "reject"}
        assert h.timers == []
        assert h.state("holds", "s") == ["+a"]
        assert h.emitted == []
        assert (h.statistics.timers_fired, h.statistics.timers_failed) == (1, 1)
        assert h.statistics.dead_letters == 0, "that counts records"
        assert h.statistics.failed_by_processor == {"holds": 1}


async def test_a_failed_timer_whose_commits_answer_is_lost_is_put_aside_once(holds: Holds) -> None:
    async with Harness(holds) as h:
        commits = LossyCommits(h)
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall", does="reject"))
        commits.losses = 1
        await h.advance(20)
        assert commits.losses == 0
        assert [letter.reason for letter in h.dead_letters] == ["no"]
        assert h.timers == []


class WithoutExpiry(Processor[list[str]]):
    """A later release of the holds, which does not take what its predecessor scheduled."""

    name = "holds"

    @on(Reserved, key="sku")
    def reserve(self, event: Reserved, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.reservation_id)


async def test_a_timer_that_nobody_takes_any_more_is_a_dead_letter() -> None:
    async with Harness(Holds()) as h:
        h.now = START
        await h.send(Reserved("a", "s", until=10, clock="wall"))
        await h.restart(WithoutExpiry())
        await h.advance(20)
        assert [letter.reason for letter in h.dead_letters] == ["no-handler"]
        assert h.timers == []


class Careless(Processor):
    """Schedules what it cannot be handed, and what has no usable id or time."""

    policy = Policy(attempts=1)

    @on(Reserved)
    def reserve(self, event: Reserved, ctx: Context) -> None:
        match event.does:
            case "nobody":
                ctx.schedule(START, Released("x"), id="x")
            case "naive":
                ctx.schedule(datetime(2026, 1, 1), event, id="x")
            case "far":
                ctx.schedule(1e15, event, id="x")
            case "nan":
                ctx.schedule(float("nan"), event, id="x")
            case "id":
                ctx.schedule(START, event, id="")
            case "line":
                ctx.cancel("a\nb")


@pytest.mark.parametrize("does", ["nobody", "naive", "far", "nan", "id", "line"])
async def test_what_cannot_be_scheduled_fails_its_event(does: str) -> None:
    async with Harness(Careless()) as h:
        await h.send(Reserved("a", "s", does=does))
        (letter,) = h.dead_letters
        assert letter.error.startswith("ProcessorError: careless: ")
        assert h.timers == []


async def test_a_datetime_is_a_time_too() -> None:
    class Aware(Processor):
        @on(Reserved)
        def reserve(self, event: Reserved, ctx: Context) -> None:
            ctx.schedule(datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC), event, id="x")

    async with Harness(Aware()) as h:
        await h.send(Reserved("a", "s"))
        assert [timer.at - START for timer in h.timers] == [1.0]


async def test_a_restart_finds_the_timers(holds: Holds) -> None:
    async with Harness(holds) as h:
        h.now = START
        await h.send(
            Reserved("a", "s", until=10, clock="wall"), Reserved("b", "t", until=20), time=START
        )
        await h.restart()
        await h.advance(10)
        assert h.state("holds", "s") == ["+a", "-a"]
        await h.restart()
        await h.send(Reserved("c", "t"), time=START + 20)
        assert h.state("holds", "t") == ["+b", "-b", "+c"]


async def test_more_timers_than_a_batch_takes_all_fire_in_order() -> None:
    async with Harness(Holds()) as h:
        h.now = START
        many = [Reserved(f"r{n:04}", "s", until=10 + n / 1000, clock="wall") for n in range(2_500)]
        await h.send(*many)
        h.now = START + 1_000
        await h.advance(0)
        fired = h.state("holds", "s")[2_500:]
        assert fired == [f"-r{n:04}" for n in range(2_500)]
        assert h.statistics.timers_fired == 2_500


@given(
    due=st.lists(st.integers(0, 30), max_size=8).map(sorted),
    clocks=st.lists(st.integers(0, 30), max_size=8).map(sorted),
)
def test_a_timer_stands_before_the_first_event_that_reaches_its_time(
    due: list[int], clocks: list[int]
) -> None:
    for at, place in zip(due, places(due, clocks), strict=True):
        assert all(clock < at for clock in clocks[:place])
        assert all(clock >= at for clock in clocks[place:])


# A model: what a stock's history must be, whatever batches, restarts and lost answers there are.

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("reserve"),
            st.sampled_from("abc"),
            st.integers(1, 30),
            st.sampled_from(["event", "wall"]),
        ),
        st.tuples(st.just("cancel"), st.sampled_from("abc")),
        st.tuples(st.just("pass"), st.integers(1, 20)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("lose")),
    ),
    max_size=14,
)


class Model:
    """Timers as a dictionary; one event a batch, so that nothing is left to chance."""

    def __init__(self) -> None:
        self.now = 0
        self.clock: int | None = None
        self.pending: dict[str, tuple[int, str, str]] = {}
        self.log: list[str] = []

    def event(self, text: str) -> None:
        """An event comes now: what is due stands before it, and the shard's time is now."""
        self._fire(self.now)
        self.log.append(text)

    def settle(self) -> None:
        """Fire what is due without an event."""
        self._fire(self.clock)

    def _fire(self, clock: int | None) -> None:
        due = sorted(
            (by != "wall", at, name)
            for name, (at, by, _) in self.pending.items()
            if (at <= self.now if by == "wall" else clock is not None and at <= clock)
        )
        for _, _, name in due:
            self.log.append(f"-{self.pending.pop(name)[2]}")


@settings(max_examples=150, deadline=None)
@given(steps=steps)
async def test_any_history_is_that_of_the_model(steps: list[Any]) -> None:
    async with Harness(Holds()) as h:
        commits = LossyCommits(h)
        h.now = START
        model = Model()
        for number, step in enumerate(steps):
            match step:
                case ("reserve", name, after, clock):
                    one = Reserved(f"{name}/{number}", "s", model.now + after, clock)
                    await h.send(one, time=START + model.now)
                    model.event(f"+{one.reservation_id}")
                    model.pending[name] = (model.now + after, clock, one.reservation_id)
                    if clock == "event" or model.clock is not None:
                        model.clock = model.now
                case ("cancel", name):
                    await h.send(
                        Reserved(f"x/{number}", "s", does=f"cancel {name}"), time=START + model.now
                    )
                    model.event(f"+x/{number}")
                    model.pending.pop(name, None)
                    if model.clock is not None:
                        model.clock = model.now
                case ("pass", seconds):
                    for _ in range(seconds):
                        await h.advance(1)
                        model.now += 1
                        model.settle()
                case ("restart",):
                    await h.restart()
                case ("lose",):
                    commits.losses = 2
            model.settle()
        assert (h.state("holds", "s") or []) == model.log
        assert {t.id: (round(t.at - START), t.clock) for t in h.timers} == {
            name: (at, clock) for name, (at, clock, _) in model.pending.items()
        }
        assert (
            len(h.emitted)
            == len({each.id for each in h.emitted})
            == sum(text.startswith("-") for text in model.log)
        )


class LossyCommits:
    """Applies a harness's commits, and loses as many answers as `losses` says."""

    def __init__(self, h: Harness) -> None:
        self.losses = 0
        self._commit = h.store.commit
        h.store.commit = self  # type: ignore[assignment, method-assign]

    async def __call__(self, commit: Commit) -> CommitResult:
        result = await self._commit(commit)
        if self.losses and result.outcome == "OK":
            self.losses -= 1
            raise StateStoreError("the answer was lost")
        return result
