"""What handlers see: ids that no replay changes, keys, times, and states."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Context, Event, Policy, Processor, ProcessorError, on
from streamproc.context import Effects, Item
from streamproc.testing import Harness


class Said(Event, id="said_id"):
    said_id: str
    who: str = "x"
    fails: int = 0


class Heard(Event):
    said_id: str
    call_key: str
    ordinal: int


class Gossip(Processor[int]):
    """Emits two events for each; fails as often as the event asks."""

    policy = Policy(attempts=3, backoff=(1.0, 1.0))

    def __init__(self) -> None:
        self.contexts: list[tuple[str | None, float, float, str, int]] = []

    @on(Said, key="who")
    async def hear(self, event: Said, ctx: Context[int]) -> None:
        ctx.state += 1
        for ordinal in (1, 2):
            ctx.emit(Heard(said_id=event.said_id, call_key=ctx.idempotency_key, ordinal=ordinal))
            await asyncio.sleep(0)
        if ctx.attempt <= event.fails:
            raise RuntimeError("not yet")
        self.contexts.append(
            (ctx.key, ctx.event_time, ctx.arrival_time, ctx.partition_key, ctx.attempt)
        )


class Echo(Processor):
    """Has the same events as Gossip, and no state."""

    @on(Said)
    def hear(self, event: Said, ctx: Context) -> None:
        ctx.emit(Heard(said_id=event.said_id, call_key=ctx.idempotency_key, ordinal=1))


@given(
    splits=st.lists(st.integers(1, 5), max_size=6),
    whos=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    failing=st.sets(st.integers(0, 11)),
)
@settings(max_examples=40, deadline=None)
async def test_ids_and_order_do_not_depend_on_batches_or_failures(
    splits: list[int], whos: list[str], failing: set[int]
) -> None:
    calm = [Said(said_id=f"e{at}", who=who) for at, who in enumerate(whos)]
    rough = [
        msgspec.structs.replace(event, fails=2 if at in failing else 0)
        for at, event in enumerate(calm)
    ]
    async with Harness(Gossip(), Echo()) as whole:
        await whole.send(*calm)
    async with Harness(Gossip(), Echo(), concurrency=2) as pieces:
        rest = rough
        for size in splits:
            if rest:
                await pieces.send(*rest[:size])
                await pieces.restart()
                rest = rest[size:]
        if rest:
            await pieces.send(*rest)
    assert pieces.emitted == whole.emitted
    assert [each.payload["said_id"] for each in whole.emitted] == [
        f"e{at}" for at in range(len(whos)) for _ in range(3)
    ]
    assert len({each.id for each in whole.emitted}) == 3 * len(whos)


async def test_ids_differ_by_processor_and_ordinal() -> None:
    async with Harness(Gossip(), Echo()) as h:
        await h.send(Said(said_id="e"))
        gossip, second, echo = h.emitted
    assert len({gossip.id, second.id, echo.id}) == 3
    assert gossip.payload["call_key"] == second.payload["call_key"] != echo.payload["call_key"]
    assert gossip.payload["call_key"] not in {gossip.id, second.id}


async def test_ids_are_the_same_on_every_attempt_worker_and_delivery() -> None:
    """A producer's retry has another sequence number and may have another partition key."""
    emitted = []
    for fails in (0, 2):
        async with Harness(Gossip()) as h:
            await h.send_raw(*[b"something before"] * fails)
            await h.send(Said(said_id="e", fails=fails), key=f"partition-{fails}")
            emitted.append([(each.id, each.payload["call_key"]) for each in h.emitted])
    assert emitted[0] == emitted[1]


async def test_handlers_see_times_key_and_attempt() -> None:
    gossip = Gossip()
    async with Harness(gossip) as h:
        start = h.now
        await h.send(Said(said_id="a", who="k", fails=1), time=start - 5, key="p")
        await h.send(Said(said_id="b", who="k|l"))
    assert gossip.contexts == [
        ("k", start - 5, start, "p", 2),
        ("k%7Cl", start + h.delays[0], start + h.delays[0], "b", 1),
    ]


async def test_emitted_events_leave_under_the_handlers_key_or_the_records() -> None:
    class Loud(Processor):
        @on(Said)
        def hear(self, event: Said, ctx: Context) -> None:
            ctx.emit(event, key="chosen")

    async with Harness(Gossip(), Echo(), Loud()) as h:
        await h.send(Said(said_id="e", who="me"), key="partition", time="2026-01-01T00:00:00Z")
        assert [each.key for each in h.emitted] == ["me", "me", "partition", "chosen"]
        assert {each.cause for each in h.emitted} == {"e"}
        assert {each.time for each in h.emitted} == {"2026-01-01T00:00:00Z"}


class Transfer(Event, id="transfer_id"):
    transfer_id: str
    source: str
    target: str
    amount: int


class Accounts(Processor[int]):
    @on(Transfer, keys=lambda event: [event.source, ("to", event.target)])
    def move(self, event: Transfer, ctx: Context[int]) -> None:
        assert set(ctx.states) == {event.source, ("to", event.target)}
        assert len(ctx.states) == 2
        ctx.states[event.source] -= event.amount
        ctx.states["to", event.target] = ctx.states["to", event.target] + event.amount
        assert ctx.key is None
        if event.amount < 0:
            _ = ctx.state


async def test_a_handler_with_several_keys_reads_and_writes_their_states() -> None:
    async with Harness(Accounts()) as h:
        await h.send(Transfer("t1", "a", "b", 5), Transfer("t2", "b", "a", 2))
        assert h.state("accounts", "a") == -5
        assert h.state("accounts", ("to", "b")) == 5
        assert h.state("accounts", "b") == -2
        assert h.state("accounts", ("to", "a")) == 2


async def test_asking_for_the_state_of_several_keys_is_told_in_the_dead_letter() -> None:
    async with Harness(Accounts()) as h:
        await h.send(Transfer("t1", "a", "b", -1))
        assert ProcessorError.__name__ in h.dead_letters[0].error
        assert "with keys= use ctx.states" in h.dead_letters[0].error
        assert h.state("accounts", "a") is None


async def test_a_key_that_was_not_declared_is_no_state() -> None:
    class Curious(Processor[int]):
        @on(Transfer, keys=lambda event: [event.source])
        def move(self, event: Transfer, ctx: Context[int]) -> None:
            with pytest.raises(KeyError):
                ctx.states[event.target]

    async with Harness(Curious()) as h:
        await h.send(Transfer("t1", "a", "b", 1))
        assert h.statistics.processed == 1


class Keyed(str):
    """A text of a class of its own, as some libraries have for identifiers."""


def test_a_partition_key_is_any_text_that_can_be_written() -> None:
    effects = Effects(lambda processor, event: None)
    context = Context[None]("p", "g", "stream", "shard", effects)
    context.begin(Item(0, "Said", "e1", b"digest", None, 1.0, "7", "pk"), None, {})
    event = Heard(said_id="e1", call_key="", ordinal=1)
    for key in ("", "ü", Keyed("k")):
        context.emit(event, key=key)
    with pytest.raises(UnicodeEncodeError):
        context.emit(event, key="\ud800")
    told = msgspec.msgpack.encode([emission.key for emission in effects.emissions])
    assert msgspec.msgpack.decode(told) == ["", "ü", "k"]
