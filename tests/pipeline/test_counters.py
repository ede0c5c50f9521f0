"""Counters as handlers use them: undone with their event, shared by shards, kept over restarts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, on
from streamproc.testing import Harness


class Paid(Event, id="payment_id"):
    payment_id: str
    card: str = "c"
    terminal: str = "t"
    amount: int = 1
    fails: int = 0


def terminal_of(event: Paid) -> list[Any]:
    return [("terminal", event.terminal)]


class Terminals(Processor[int]):
    policy = Policy(attempts=2, backoff=(0.0, 0.0))

    def __init__(self) -> None:
        self.seen: list[tuple[int | float, int]] = []

    @on(Paid, key="card", counters=terminal_of)
    async def count(self, event: Paid, ctx: Context[int]) -> None:
        ctx.state += 1
        counter = ctx.counters["terminal", event.terminal]
        counter.add("amount", event.amount)
        await asyncio.sleep(0)
        counter.add("by-size", 1, bucket=event.amount)
        counter.distinct("cards", event.card)
        counter.max("most", event.amount)
        if ctx.attempt <= event.fails:
            counter.forget("by-size", before=100)
            raise RuntimeError("as asked")
        self.seen.append((counter.value("amount"), counter.count("cards")))


def fields(h: Harness, terminal: str) -> dict[str, Any]:
    counts = h.store.counts(f"sp:{{test:0}}:c:terminals:terminal|{terminal}")
    found = {} if counts is None else counts.to_fields()
    found.pop("v", None)
    return found


paid = st.tuples(
    st.sampled_from("abc"), st.sampled_from("xy"), st.integers(1, 3), st.sampled_from([0, 0, 1, 9])
)


@given(drawn=st.lists(paid, min_size=1, max_size=12), batch=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
async def test_what_failed_events_counted_is_undone_and_the_rest_is_exact(
    drawn: list[tuple[str, str, int, int]], batch: int
) -> None:
    events = [Paid(f"p{at}", *each) for at, each in enumerate(drawn)]
    async with Harness(Terminals(), concurrency=3) as h:
        for first in range(0, len(events), batch):
            await h.send(*events[first : first + batch])
        for terminal in "xy":
            good = [e for e in events if e.fails < 2 and e.terminal == terminal]
            expected: dict[str, Any] = {}
            if good:
                sizes = [e.amount for e in good]
                expected = {"n:amount": sum(sizes), "max:most": max(sizes)}
                expected |= {f"b:{size}:by-size": sizes.count(size) for size in set(sizes)}
                expected["d:cards"] = len({e.card for e in good})
            assert fields(h, terminal) == expected


async def test_handlers_read_what_is_stored_and_what_their_batch_has_done() -> None:
    terminals = Terminals()
    async with Harness(terminals) as h:
        await h.send(Paid("1", "a", amount=5), Paid("2", "a", amount=7))
        await h.send(Paid("3", "b", amount=1))
        await h.restart()
        await h.send(Paid("4", "c", amount=100))
    assert terminals.seen == [(5, 1), (12, 1), (13, 2), (113, 3)]


async def test_a_duplicate_counts_once() -> None:
    async with Harness(Terminals()) as h:
        await h.send(Paid("1"), Paid("1"))
        await h.send(Paid("1"))
        assert fields(h, "t")["n:amount"] == 1


async def test_counters_need_neither_a_key_nor_state() -> None:
    class Total(Processor):
        @on(Paid, counters=lambda event: ["all", event.terminal])
        def count(self, event: Paid, ctx: Context) -> None:
            assert set(ctx.counters) == {"all", event.terminal}
            assert len(ctx.counters) == 2
            for counter in ctx.counters.values():
                counter.add("n")

    async with Harness(Total()) as h:
        await h.send(Paid("1", terminal="x"), Paid("2", terminal="y"))
        counts = [h.store.counts(f"sp:{{test:0}}:c:total:{key}") for key in ("all", "x", "y")]
        assert [each.sums for each in counts if each] == [{"n": 2}, {"n": 1}, {"n": 1}]


async def test_a_counter_that_was_not_declared_fails_the_event() -> None:
    class Curious(Processor):
        policy = Policy(attempts=1)

        @on(Paid, counters=terminal_of)
        def count(self, event: Paid, ctx: Context) -> None:
            ctx.counters["undeclared"].add("n")

    async with Harness(Curious()) as h:
        await h.send(Paid("1"))
        assert h.dead_letters[0].error == "KeyError: 'undeclared'"


@pytest.mark.parametrize(
    "deed",
    [
        lambda c: c.add("n", float("nan")),
        lambda c: c.add("n", True),
        lambda c: c.add("n", 2**53 + 1),
        lambda c: c.add("n", 1, bucket=1.5),
        lambda c: c.add("", 1),
        lambda c: c.add("\ud800", 1),
        lambda c: c.min("n", "1"),
        lambda c: c.max("n", -(2**53) - 1),
        lambda c: c.distinct("n", 5),
        lambda c: c.distinct("n", "\ud800"),
    ],
)
async def test_what_cannot_be_stored_fails_its_event_alone(deed: Any) -> None:
    class Odd(Processor):
        policy = Policy(attempts=1)

        @on(Paid, counters=terminal_of)
        def count(self, event: Paid, ctx: Context) -> None:
            counter = ctx.counters["terminal", event.terminal]
            counter.add("good")
            if event.payment_id == "2":
                deed(counter)

    async with Harness(Odd()) as h:
        await h.send(Paid("1"), Paid("2"), Paid("3"))
        assert [letter.event_id for letter in h.dead_letters] == ["2"]
        counts = h.store.counts("sp:{test:0}:c:odd:terminal|t")
        assert counts is not None
        assert counts.sums == {"good": 2}


async def test_a_counter_kept_beyond_its_call_changes_nothing() -> None:
    kept = []

    class Careless(Processor):
        policy = Policy(attempts=2, backoff=(0.0, 0.0), timeout=0.01)

        @on(Paid, counters=terminal_of)
        async def count(self, event: Paid, ctx: Context) -> None:
            counter = ctx.counters["terminal", event.terminal]
            for other in kept:
                other.add("n", 1_000)
            kept.append(counter)
            counter.add("n", 1)
            if ctx.attempt == 1:
                await asyncio.Event().wait()

    async with Harness(Careless()) as h:
        await h.send(Paid("1"))
        counts = h.store.counts("sp:{test:0}:c:careless:terminal|t")
        assert counts is not None
        assert counts.sums == {"n": 1}
