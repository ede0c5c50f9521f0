"""What a stock remembers as text is what it would remember as objects."""

from __future__ import annotations

from bisect import insort
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamproc import Context, Processor, on
from streamproc.testing import Harness
from streamproc_inventory import InventoryProcessor, Line, Stock, StockReceived
from streamproc_inventory.moves import (
    add_move,
    listed,
    moves_of,
    units_after,
    without_oldest,
)
from streamproc_inventory.register import enter, entries, look_up, strike
from streamproc_inventory.register import without_oldest as without_oldest_entry
from streamproc_inventory.upgrades import from_version_1

from .making import line, moment, placed, received, returned, shipped, stock

KEYS = st.text(alphabet=" =%2053D/a|\n\t\u00a0ü", max_size=5)


@given(
    steps=st.lists(st.tuples(KEYS, st.sampled_from(["2", "2,0,1,0,0,0", ""])), max_size=30),
    most=st.integers(0, 5),
)
def test_a_register_is_a_dict_that_forgets_its_oldest(
    steps: list[tuple[str, str]], most: int
) -> None:
    register, model = "", dict[str, str]()
    for key, value in steps:
        assert look_up(register, key) == model.get(key)
        if not value:
            register = strike(register, key)
            model.pop(key, None)
        elif key not in model:
            register = enter(register, key, value)
            model[key] = value
            if len(model) > most:
                register = without_oldest_entry(register)
                del model[next(iter(model))]
        assert list(entries(register).items()) == list(model.items())


@given(
    steps=st.lists(
        st.tuples(st.integers(-2, 12), st.integers(-(10**9), 10**9)), min_size=1, max_size=30
    ),
    since=st.integers(-3, 13),
)
def test_moves_lie_in_the_order_of_time(steps: list[tuple[int, int]], since: int) -> None:
    moves, model = "", list[tuple[int, int]]()
    for at, units in steps:
        moves = add_move(moves, at, units)
        insort(model, (at, units), key=lambda move: move[0])
        assert moves_of(moves) == model
    assert listed(model) == moves
    later = [move for move in model if move[0] > since]
    assert units_after(moves, since) == (sum(units for _, units in later), listed(later))
    rest = listed(move for move in model if move[0] > model[0][0])
    assert without_oldest(moves) == (model[0][0], len(model) - rest.count(" "), rest)


UNITS = st.integers(0, 3)


@given(st.builds(Line, UNITS, UNITS, UNITS, UNITS, UNITS, UNITS))
def test_a_settled_line_is_remembered_whole(known: Line) -> None:
    is_possible = bool(known.returned) if not known.placed else not known.since_ms
    if is_possible and not known.is_needed:
        assert Line.of_settled(known.settled) == known


async def test_what_an_older_release_has_stored_is_read_and_goes_on() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 9), placed("o9", line(1)), time=moment(0).timestamp())
        present = msgspec.json.decode(msgspec.json.encode(stock(h)))
    present["book"] |= {
        "lines": {"o9/1": [1, 0, 0, 0, 0, 0]},
        "settled": {"o 1/1": [2, 0, 2, 0, 0, 0], "o2/1": [3, 1, 2, 1, 0, 0]},
        "ended": {"v1": "released"},
        "moves": [[1767225600000, 9], [1767225600500, -2]],
    }
    found = msgspec.convert(from_version_1(present), Stock)
    assert entries(found.book.settled) == {"o 1/1": "2", "o2/1": "3,1,2,1,0,0"}
    assert entries(found.book.ended) == {"v1": "released"}
    assert found.book.moves == " 1767225600000:9 1767225600500:-2"
    kept = (found.book.settled_kept, found.book.ended_kept, found.book.moves_kept)
    assert kept == (2, 1, 2)
    assert [found.book.known_line(key) for key in ("o 1/1", "o2/1", "o9/1", "x/1")] == [
        Line(2, shipped=2),
        Line(3, cancelled=1, shipped=2, returned=1),
        Line(1),
        None,
    ]
    assert from_version_1({"on_hand": 1}) == {
        "on_hand": 1,
        "book": dict.fromkeys(["settled", "ended", "moves"], "")
        | dict.fromkeys(["settled_kept", "ended_kept", "moves_kept"], 0),
    }


async def test_a_stock_of_an_older_release_takes_events() -> None:
    class Older(Processor[dict[str, Any]]):
        name = "inventory"

        @on(StockReceived, key=lambda event: (event.sku, event.location_id))
        def receive(self, event: StockReceived, ctx: Context[dict[str, Any]]) -> None:
            ctx.state |= {
                "on_hand": 7,
                "version": 3,
                "available": 7,
                "book": {"settled": {"o1/1": [2, 0, 2, 0, 0, 0]}, "moves": [[1767225600000, 9]]},
            }

    async with Harness(Older()) as h:
        await h.send(received("r", 1))
        await h.restart(InventoryProcessor())
        await h.send(returned("b1", "o1", 1), shipped("s2", "o1", line(1)))
        found = stock(h)
    assert (found.on_hand, found.version, found.book.over_closed) == (7, 5, 1)
    assert found.book.known_line("o1/1") == Line(2, shipped=3, returned=1)
