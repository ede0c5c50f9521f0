"""Handlers that take a run of events: few calls, stream order, and failures that stand alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, Reject, Retry, on
from streamproc.pipeline.transaction import ShardHalted
from streamproc.testing import Harness
from tests import virtual_time


class Paid(Event, id="name"):
    """`fails`: how often a try of it alone fails."""

    name: str
    card: str = "c"
    fails: int = 0
    how: str = "error"


class Reversed(Event, id="name"):
    name: str
    card: str = "c"


class Scored(Event):
    name: str


class Scorer(Processor[list[str]]):
    """Notes each payment in its card's state; the calls are kept to be counted."""

    name = "scorer"
    policy = Policy(attempts=3, backoff=(1.0, 60.0))

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    @on(Paid, key="card", batch=True)
    def score(self, events: Sequence[Paid], contexts: Sequence[Context[list[str]]]) -> None:
        self._score(events, contexts)

    def _score(self, events: Sequence[Paid], contexts: Sequence[Context[list[str]]]) -> None:
        self.calls.append([event.name for event in events])
        for event, ctx in zip(events, contexts, strict=True):
            ctx.state.append(event.name)
            ctx.emit(Scored(name=event.name))
        for event, ctx in zip(events, contexts, strict=True):
            if event.fails > (ctx.attempt - 1 if len(events) == 1 else 0):
                raise Reject("unwanted") if event.how == "reject" else RuntimeError("as asked")


class AsyncScorer(Scorer):
    """The same, with a chance for others to run in between."""

    @on(Paid, key="card", batch=True)
    async def score(  # type: ignore[override]
        self, events: Sequence[Paid], contexts: Sequence[Context[list[str]]]
    ) -> None:
        await asyncio.sleep(0)
        self._score(events, contexts)
        await asyncio.sleep(0)


class Audit(Processor[int]):
    """A handler of single events of the same type; refuses those that are to fail late."""

    policy = Policy(attempts=1)

    @on(Paid, key="card")
    def count(self, event: Paid, ctx: Context[int]) -> None:
        ctx.state += 1
        if event.how == "audit":
            raise Reject("audit")


def scored(h: Harness) -> list[str]:
    return [each.name for each in h.emitted_as(Scored)]


kinds = pytest.mark.parametrize("kind", [Scorer, AsyncScorer])


@kinds
async def test_a_transactions_events_come_in_one_call_in_stream_order(kind: type[Scorer]) -> None:
    scorer = kind()
    async with Harness(scorer, Audit()) as h:
        await h.send(*[Paid(f"p{n}", card="ab"[n % 2]) for n in range(100)])
        assert scorer.calls == [[f"p{n}" for n in range(100)]]
        assert h.state("scorer", "a") == [f"p{n}" for n in range(0, 100, 2)]
        assert h.state("audit", "b") == 50
        assert scored(h) == scorer.calls[0]


payments = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([0, 0, 0, 0, 1, 2, 3, 99]),
        st.sampled_from(["error", "error", "reject", "audit"]),
    ),
    min_size=1,
    max_size=20,
).map(
    lambda drawn: [
        Paid(f"p{at}", card, 0 if how == "audit" and fails < 99 else fails, how)
        if fails or how == "audit"
        else Paid(f"p{at}", card)
        for at, (card, fails, how) in enumerate(drawn)
    ]
)


def is_good(paid: Paid) -> bool:
    return paid.how != "audit" and (paid.fails == 0 or (paid.how == "error" and paid.fails < 3))


@given(paid=payments, batch=st.integers(1, 20), kind=st.sampled_from([Scorer, AsyncScorer]))
@settings(max_examples=100, deadline=None)
async def test_failing_events_leave_no_trace_and_the_others_take_effect_once_in_order(
    paid: list[Paid], batch: int, kind: type[Scorer]
) -> None:
    good = [each for each in paid if is_good(each)]
    async with Harness(kind(), Audit(), concurrency=2) as h:
        for first in range(0, len(paid), batch):
            await h.send(*paid[first : first + batch])
        for card in "ab":
            names = [each.name for each in good if each.card == card]
            assert (h.state("scorer", card) or []) == names
            assert (h.state("audit", card) or 0) == len(names)
        assert scored(h) == [each.name for each in good]
        assert [letter.event_id for letter in h.dead_letters] == [
            each.name for each in paid if not is_good(each)
        ]
        assert h.statistics.processed == len(good)


@kinds
@pytest.mark.parametrize("bad", [1, 2, 5, 20])
async def test_k_bad_events_of_n_cost_on_the_order_of_k_log_n_calls(
    kind: type[Scorer], bad: int
) -> None:
    size = 1_024
    scorer = kind()
    failing = set(range(0, size, size // bad)[:bad]) if bad > 1 else {700}
    async with Harness(scorer) as h:
        await h.send(
            *[Paid(f"p{n}", fails=99 if n in failing else 0, how="reject") for n in range(size)]
        )
        assert len(h.dead_letters) == bad
        assert h.statistics.processed == size - bad
    # Each bad event costs at most the two halves of each level above it.
    assert len(scorer.calls) <= 1 + 2 * bad * math.ceil(math.log2(size))
    # And the events together no more work than so many passes over the batch.
    assert sum(map(len, scorer.calls)) <= size * (3 + math.ceil(math.log2(bad)))


async def test_an_event_that_fails_alone_follows_the_policy() -> None:
    async with Harness(Scorer()) as h:
        await h.send(Paid("p0"), Paid("p1", fails=99), Paid("p2", fails=2), Paid("p3"))
        (letter,) = h.dead_letters
        assert (letter.event_id, letter.attempts, letter.handler) == ("p1", 3, "scorer.score")
        assert letter.reason == "handler-failed"
        assert "as asked" in letter.traceback
        assert h.statistics.retries == 4
        assert h.state("scorer", "c") == ["p0", "p2", "p3"]


async def test_halt_commits_what_came_before() -> None:
    class Halting(Scorer):
        policy = Policy(attempts=1, then="halt")

    async with Harness(Halting(), Audit()) as h:
        with pytest.raises(ShardHalted):
            await h.send(*[Paid(f"p{n}", fails=99 if n == 5 else 0) for n in range(10)])
        assert h.state("scorer", "c") == [f"p{n}" for n in range(5)]
        assert h.state("audit", "c") == 5


class Busy(Processor):
    """Its model is not ready for the first calls."""

    policy = Policy(attempts=4, backoff=(1.0, 60.0))

    def __init__(self, busy: int) -> None:
        self.busy = busy
        self.calls = 0

    @on(Paid, batch=True)
    async def score(self, events: Sequence[Paid], contexts: Sequence[Context]) -> None:
        self.calls += 1
        if self.calls <= self.busy:
            raise Retry(after=5.0)
        for event, ctx in zip(events, contexts, strict=True):
            ctx.emit(Scored(name=event.name))


async def test_a_call_that_asks_for_a_retry_is_repeated_whole_before_it_is_divided() -> None:
    busy = Busy(3)
    async with Harness(busy) as h:
        await h.send(*[Paid(f"p{n}") for n in range(64)])
        assert (busy.calls, h.delays) == (4, [5.0, 5.0])
        assert len(scored(h)) == 64


class Card(Processor[list[str]]):
    """Batches of payments, and single reversals, on the same cards."""

    @on(Paid, key="card", batch=True)
    def pay(self, events: Sequence[Paid], contexts: Sequence[Context[list[str]]]) -> None:
        self.runs = [*getattr(self, "runs", []), [event.name for event in events]]
        for event, ctx in zip(events, contexts, strict=True):
            ctx.state.append(event.name)

    @on(Reversed, key="card")
    def reverse(self, event: Reversed, ctx: Context[list[str]]) -> None:
        ctx.state.append(event.name)


class AsyncCard(Card):
    name = "card"

    @on(Reversed, key="card")
    async def reverse(self, event: Reversed, ctx: Context[list[str]]) -> None:  # type: ignore[override]
        before = list(ctx.state)
        await asyncio.sleep(0)
        ctx.state = [*before, event.name]


mixed = st.lists(
    st.tuples(st.sampled_from([Paid, Reversed]), st.sampled_from("abc")), min_size=1, max_size=30
)


@given(drawn=mixed, kind=st.sampled_from([Card, AsyncCard]))
@settings(max_examples=80, deadline=None)
async def test_events_of_one_key_keep_their_order_across_a_processors_handlers(
    drawn: list[tuple[type[Any], str]], kind: type[Card]
) -> None:
    events = [event(f"{card}{at}", card) for at, (event, card) in enumerate(drawn)]
    async with Harness(kind()) as h:
        await h.process(*[h.record(event, key=event.card) for event in events])
        for card in "abc":
            expected = [event.name for event in events if event.card == card]
            assert (h.state("card", card) or []) == expected


async def test_a_run_goes_on_past_events_of_other_keys() -> None:
    card = Card()
    async with Harness(card) as h:
        events = [Paid("a0", "a"), Reversed("b1", "b"), Paid("a2", "a"), Reversed("a3", "a"),
                  Paid("a4", "a")]  # fmt: skip
        await h.process(*[h.record(event, key=event.card) for event in events])
        assert card.runs == [["a0", "a2"], ["a4"]]


def test_a_batch_call_that_takes_too_long_fails_as_one_and_is_divided() -> None:
    class Slow(Processor[int]):
        policy = Policy(attempts=1, timeout=10.0)

        @on(Paid, key="card", batch=True)
        async def score(self, events: Sequence[Paid], contexts: Sequence[Context[int]]) -> None:
            for event, ctx in zip(events, contexts, strict=True):
                ctx.state += 1
                await asyncio.sleep(100 if event.fails else 0.5)

    async def main() -> None:
        async with Harness(Slow()) as h:
            await h.send(*[Paid(f"p{n}", fails=int(n == 3)) for n in range(8)])
            assert [d.event_id for d in h.dead_letters] == ["p3"]
            assert h.state("slow", "c") == 7

    virtual_time.run(main())


async def test_two_batch_handlers_of_different_processors_each_get_one_call() -> None:
    class Other(Scorer):
        name = "other"

    one, two = Scorer(), Other()
    async with Harness(one, two) as h:
        await h.send(*[Paid(f"p{n}") for n in range(10)])
        assert one.calls == two.calls == [[f"p{n}" for n in range(10)]]
        assert [each.id for each in h.emitted] == list(dict.fromkeys(e.id for e in h.emitted))
        assert scored(h) == [f"p{n}" for n in range(10) for _ in range(2)]


async def test_a_state_that_cannot_be_stored_is_its_own_events_failure() -> None:
    class Odd(Processor[list[Any]]):
        policy = Policy(attempts=1)

        @on(Paid, key="name", batch=True)
        def score(self, events: Sequence[Paid], contexts: Sequence[Context[list[Any]]]) -> None:
            for event, ctx in zip(events, contexts, strict=True):
                ctx.state.append(object() if event.fails else event.name)

    async with Harness(Odd()) as h:
        await h.send(*[Paid(f"p{n}", fails=int(n == 3)) for n in range(8)])
        assert [d.event_id for d in h.dead_letters] == ["p3"]
        assert h.state("odd", "p4") == ["p4"]
