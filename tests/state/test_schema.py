"""States outlive the code that wrote them: their version is stored, and older ones are upgraded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamproc import Context, Event, Policy, Processor, ProcessorError, on
from streamproc.state.cell import Codec, StateCell
from streamproc.testing import Harness

from .stores import SHARD, START, Kit, RedisKit, commit, position


class Paid(Event, id="payment_id"):
    payment_id: str
    card: str
    amount: int = 1


class FirstCard(msgspec.Struct):
    total: int = 0


class First(Processor[FirstCard]):
    name = "cards"
    policy = Policy(attempts=1)

    @on(Paid, key="card")
    def paid(self, event: Paid, ctx: Context[FirstCard]) -> None:
        ctx.state.total += event.amount


class SecondCard(msgspec.Struct):
    sums: dict[str, int] = {}


def by_currency(old: dict[str, Any]) -> dict[str, Any]:
    return {"sums": {"EUR": old["total"]}}


class Second(Processor[SecondCard]):
    name = "cards"
    policy = Policy(attempts=1)
    state_version = 2
    state_upgrades = {1: by_currency}

    @on(Paid, key="card")
    def paid(self, event: Paid, ctx: Context[SecondCard]) -> None:
        sums = ctx.state.sums
        if event.amount:
            sums["EUR"] = sums.get("EUR", 0) + event.amount


class ThirdCard(msgspec.Struct):
    cents: dict[str, int] = {}


class Third(Processor[ThirdCard]):
    name = "cards"
    policy = Policy(attempts=1)
    state_version = 3
    state_upgrades = {
        1: by_currency,
        2: lambda old: {"cents": {name: 100 * value for name, value in old["sums"].items()}},
    }

    @on(Paid, key="card")
    def paid(self, event: Paid, ctx: Context[ThirdCard]) -> None:
        ctx.state.cents["EUR"] = ctx.state.cents.get("EUR", 0) + 100 * event.amount


async def test_old_states_are_upgraded_step_by_step_when_they_are_used() -> None:
    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5), Paid("2", "b", 7), Paid("3", "c", 9))
        await h.restart(Second())
        await h.send(Paid("4", "b", 1))
        assert h.state("cards", "b").sums == {"EUR": 8}
        assert h.state("cards", "a").sums == {"EUR": 5}, "also of one not yet written again"
        await h.restart(Third())
        await h.send(Paid("5", "a", 1), Paid("6", "b", 1), Paid("7", "new", 1))
        cents = [h.state("cards", key).cents["EUR"] for key in ("a", "b", "c", "new")]
        assert cents == [600, 900, 900, 100]


async def test_a_state_that_is_only_read_is_written_in_the_new_version() -> None:
    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5))
        await h.restart(Second())
        await h.send(Paid("2", "a", 0))
        assert h.store.stored("sp:{test:0}:s:cards:a") == b'{"sums":{"EUR":5}}'
        assert h.store.schema("sp:{test:0}:s:cards:a") == 2


async def test_in_a_rolling_deployment_the_old_release_refuses_what_the_new_one_wrote() -> None:
    """Only events of such keys fail, clearly, and succeed once they are redriven."""
    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5), Paid("2", "b", 5))
        await h.restart(Second())
        await h.send(Paid("3", "a", 1))
        await h.restart(First())
        await h.send(Paid("4", "a", 1), Paid("5", "b", 1))
        (letter,) = h.dead_letters
        assert letter.event_id == "4"
        assert "sp:{test:0}:s:cards:a has version 2" in letter.error
        assert "knows 1 at most: a newer release has written it" in letter.error
        assert h.state("cards", "b").total == 6
        await h.restart(Second())
        await h.send(Paid("4", "a", 1))
        assert h.state("cards", "a").sums == {"EUR": 7}


async def test_an_upgrade_that_fails_fails_the_events_of_that_key_only() -> None:
    class Picky(Second):
        state_upgrades = {1: lambda old: {"sums": {"EUR": old["total"] // (old["total"] - 5)}}}

    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5), Paid("2", "b", 6))
        await h.restart(Picky())
        await h.send(Paid("3", "a"), Paid("4", "b"))
        (letter,) = h.dead_letters
        assert letter.event_id == "3"
        assert "cards.state_upgrades[1] fails on it (ZeroDivisionError" in letter.error
        assert h.state("cards", "b").sums == {"EUR": 7}


async def test_an_upgrade_that_returns_the_wrong_shape_is_told() -> None:
    class Wrong(Second):
        state_upgrades = {1: lambda old: {"sums": old["total"]}}

    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5))
        await h.restart(Wrong())
        await h.send(Paid("2", "a"))
        assert "is not a <class" in h.dead_letters[0].error


async def test_a_version_whose_upgrade_is_gone_is_named() -> None:
    class Forgetful(Third):
        state_upgrades = {2: Third.state_upgrades[2]}

    async with Harness(First()) as h:
        await h.send(Paid("1", "a", 5))
        await h.restart(Forgetful())
        await h.send(Paid("2", "a"))
        assert "has version 1, and cards has no state_upgrades[1]" in h.dead_letters[0].error


@pytest.mark.parametrize(
    "upgrades",
    [{1: by_currency}, {0: by_currency, 1: by_currency, 2: by_currency}, {3: by_currency}],
)
def test_upgrades_that_leave_a_gap_are_refused_when_the_class_is_made(upgrades: Any) -> None:
    with pytest.raises(ProcessorError, match="needs a function for each version"):
        type("Gap", (Second,), {"state_version": 3, "state_upgrades": upgrades})


OLD, NEW = Codec("p", dict, None), Codec("p", dict, None, 2, {1: lambda old: {"new": old}})


async def test_the_version_is_stored_beside_the_state(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 1, START)
    key = kit.store.keys.state_prefix("p") + "k"  # type: ignore[attr-defined]
    at = 0

    async def write(held: StateCell, value: bytes) -> None:
        nonlocal at
        start = position(at) if at else START
        at += 1
        changes = commit(start, position(at), cells=[(held, value)])
        assert (await kit.store.commit(changes)).outcome == "OK"

    first, second = StateCell(key, OLD), StateCell(key, NEW)
    await write(first, b'{"n":1}')
    await kit.store.check([], [second])
    assert (second.schema, second.read()) == (1, {"new": {"n": 1}})
    await write(second, b'{"new":{"n":2}}')
    await write(second, b'{"new":{"n":3}}')
    await kit.store.check([], [first])
    assert (first.schema, first.raw) == (2, b'{"new":{"n":3}}')
    # A release that was taken back, and a state that was deleted: the version goes with them.
    await write(first, b'{"n":4}')
    fresh = StateCell(key, OLD)
    await kit.store.check([], [fresh])
    assert (fresh.schema, fresh.read()) == (1, {"n": 4})
    if isinstance(kit, RedisKit):
        assert await kit.client.hkeys(key) == [b"v", b"d"]  # type: ignore[misc]
