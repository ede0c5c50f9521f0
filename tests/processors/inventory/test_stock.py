"""The stock of any history: right in any order, whole orders only, bounded and readable."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import ConfigError, Event
from streamproc.testing import Harness
from streamproc_inventory import InventoryAnomaly, InventoryProcessor, Line, OrderLine
from streamproc_inventory.stock import line_key

from .histories import (
    SKU,
    WAREHOUSE,
    cancelled,
    deliver,
    levels,
    line,
    oracle,
    placed,
    received,
    shipped,
)

order_lines = st.lists(
    st.builds(
        line,
        st.integers(1, 4),
        st.sampled_from(["1", "2"]),
        st.sampled_from(["SKU-1", "SKU-2", "SKU-3"]),
        st.sampled_from(["WH-1", "WH-2"]),
    ),
    min_size=1,
    max_size=3,
)
orders = st.sampled_from(["o1", "o2", "o3"])


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw events with ids of their own, and some of them twice."""
    events: list[Event] = []
    for at in range(draw(st.integers(1, 20))):
        kind = draw(st.integers(0, 3))
        lines = draw(order_lines)
        if kind == 0:
            events.append(received(f"r{at}", lines[0].quantity, lines[0].sku, lines[0].location_id))
        elif kind == 1:
            events.append(placed(f"o{at % 4}", *lines))
        elif kind == 2:
            events.append(cancelled(f"c{at}", draw(orders), *lines))
        else:
            events.append(shipped(f"s{at}", draw(orders), *lines))
    # An order id names one event: what is placed under it first is what it is.
    first = {(type(event), getattr(event, type(event).__event_id__ or "")): event
             for event in reversed(events)}  # fmt: skip
    events = list(first.values())
    return events + draw(st.lists(st.sampled_from(events), max_size=3))


@given(
    history=histories(),
    rng=st.randoms(use_true_random=False),
    keep=st.sampled_from([0, 1, 1_000]),
    batch=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
async def test_levels_are_those_of_the_set_of_events(
    history: list[Event], rng: object, keep: int, batch: int
) -> None:
    """In any order, however few settled lines are kept."""
    rng.shuffle(history)  # type: ignore[attr-defined]
    h = await deliver(history, batch=batch, processor=InventoryProcessor(settled_lines_kept=keep))
    assert h.dead_letters == []
    for stock, expected in oracle(history).items():
        assert levels(h, *stock) == expected
        state = h.state("inventory", stock)
        assert state.committed == sum(each.open for each in state.lines.values())
        assert all(each.open == 0 and each.placed for each in state.settled.values())
        assert len(state.settled) <= keep


async def test_an_order_touches_all_its_stocks() -> None:
    h = await deliver(
        [placed("o1", line(2), line(3, "2", "SKU-2", "WH-2")), shipped("s1", "o1", line(1))]
    )
    assert levels(h) == (-1, 1, -2, 2)
    assert levels(h, "SKU-2", "WH-2") == (0, 3, -3, 3)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (placed("bad"), "no-lines"),
        (placed("bad", line(1), line(0, "2")), "quantity-not-positive"),
        (cancelled("bad", "o1", line(1), line(-1, "2")), "quantity-not-positive"),
        (shipped("bad", "o1", line(1), line(1_000_000_001, "2")), "quantity-too-large"),
        (placed("bad", line(1), line(1, "2", sku="")), "no-sku"),
        (placed("bad", line(1), line(1, "2", at="")), "no-location"),
        (placed("bad", line(1), line(1, "")), "no-line"),
        (cancelled("bad", "", line(1)), "no-order"),
        (received("bad", 0), "quantity-not-positive"),
        (received("bad", -3), "quantity-not-positive"),
        (received("bad", 10**30), "quantity-too-large"),
        (received("bad", 1, sku=""), "no-sku"),
        (received("bad", 1, at=""), "no-location"),
    ],
)
async def test_a_senseless_event_is_rejected_as_a_whole(bad: Event, reason: str) -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5), placed("o1", line(2)))
        before = h.state("inventory", (SKU, WAREHOUSE))
        await h.send(bad)
        assert [(d.event_id, d.reason) for d in h.dead_letters] == [("bad", reason)]
        assert h.state("inventory", (SKU, WAREHOUSE)) == before
        assert h.emitted == []


async def test_lines_beyond_the_bound_are_rejected_and_known_ones_go_on() -> None:
    processor = InventoryProcessor(max_open_lines=2)
    h = await deliver(
        [
            received("r1", 9),
            placed("o1", line(1)),
            placed("o2", line(1), line(1, sku="OTHER")),
            placed("o3", line(1, sku="OTHER"), line(1)),
            shipped("s1", "o1", line(1)),
            placed("o4", line(1)),
        ],
        processor=processor,
    )
    assert [(d.event_id, d.reason) for d in h.dead_letters] == [("o3", "too-many-open-lines")]
    assert levels(h) == (8, 2, 6, 0)
    assert levels(h, "OTHER") == (0, 1, -1, 1)


async def test_a_bound_that_was_lowered_keeps_no_known_line_from_closing() -> None:
    async with Harness(InventoryProcessor(max_open_lines=2)) as h:
        await h.send(received("r1", 9), placed("o1", line(1)), placed("o2", line(1)))
        await h.restart(InventoryProcessor(max_open_lines=1))
        await h.send(shipped("s1", "o1", line(1)), placed("o3", line(1)))
        assert [letter.event_id for letter in h.dead_letters] == ["o3"]
        assert levels(h) == (8, 1, 7, 0)


async def test_closed_orders_do_not_make_the_state_grow() -> None:
    async with Harness(InventoryProcessor(settled_lines_kept=10)) as h:
        for number in range(200):
            order = f"o{number}"
            await h.send(placed(order, line(1)), shipped(f"s{number}", order, line(1)))
        state = h.state("inventory", (SKU, WAREHOUSE))
    assert state.lines == {}
    assert list(state.settled) == [f"o{number}/1" for number in range(190, 200)]


@pytest.mark.parametrize(("keep", "noticed"), [(1, True), (0, False)])
async def test_closing_a_line_twice_is_noticed_while_it_is_kept(keep: int, noticed: bool) -> None:
    h = await deliver(
        [
            received("r1", 9),
            placed("o1", line(2)),
            shipped("s1", "o1", line(2)),
            cancelled("c1", "o1", line(2)),
        ],
        processor=InventoryProcessor(settled_lines_kept=keep),
    )
    assert levels(h) == (7, 0, 7, 0)
    assert bool(h.emitted_as(InventoryAnomaly)) is noticed


def test_line_keys_of_different_lines_differ() -> None:
    assert line_key("o1", "1") == "o1/1"
    pairs = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a%", "2Fb/c")]
    assert len({line_key(*pair) for pair in pairs}) == len(pairs)


async def test_the_state_is_json_that_others_can_read() -> None:
    async with Harness(InventoryProcessor(), group="shop") as h:
        await h.send(
            received("r1", 5),
            placed("o1", OrderLine(line_id="7", sku="A|B", location_id="W", quantity=6)),
            received("r2", 2, sku="A|B", at="W"),
        )
        stored = h.store.stored("sp:{shop:0}:s:inventory:A%7CB|W")
    assert stored is not None
    assert msgspec.json.decode(stored) == {
        "on_hand": 2,
        "committed": 6,
        "available": -4,
        "oversold": 4,
        "lines": {"o1/7": [6, 0, 0]},
        "settled": {},
    }


async def test_stock_survives_a_new_worker() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5), placed("o1", line(2)))
        await h.restart()
        await h.send(shipped("s1", "o1", line(2)))
        state = h.state("inventory", (SKU, WAREHOUSE))
    assert state.settled == {"o1/1": Line(placed=2, shipped=2)}
    assert levels(h) == (3, 0, 3, 0)


@pytest.mark.parametrize("setting", [{"settled_lines_kept": -1}, {"max_open_lines": 0}])
def test_settings_without_sense_are_refused_by_name(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"processors\.inventory\.{next(iter(setting))}"):
        InventoryProcessor(**setting)
