"""Known histories with known ends, in every order of delivery and with duplicates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

import pytest

from streamproc import Event
from streamproc_inventory import InventoryAnomaly, Oversold

from .histories import (
    Levels,
    cancelled,
    deliver,
    levels,
    line,
    oracle,
    placed,
    received,
    shipped,
)

SCENARIOS: dict[str, tuple[Sequence[Event], Levels]] = {
    "a sale": (
        [received("opening", 10), placed("o1", line(3)), shipped("s1", "o1", line(3))],
        (7, 0, 7, 0),
    ),
    "an order waits": (
        [received("opening", 10), placed("o1", line(3))],
        (10, 3, 7, 0),
    ),
    "cancelled before it is shipped": (
        [received("opening", 5), placed("o2", line(2)), cancelled("c1", "o2", line(2))],
        (5, 0, 5, 0),
    ),
    "shipped in part": (
        [received("opening", 5), placed("o3", line(2)), shipped("s1", "o3", line(1))],
        (4, 1, 3, 0),
    ),
    "cancelled in part and shipped in part": (
        [
            received("opening", 20),
            placed("o4", line(10)),
            cancelled("c1", "o4", line(3)),
            shipped("s1", "o4", line(5)),
        ],
        (15, 2, 13, 0),
    ),
    "more cancelled than placed": (
        [received("opening", 20), placed("o5", line(2)), cancelled("c1", "o5", line(5))],
        (20, 0, 20, 0),
    ),
    "more shipped than placed": (
        [received("opening", 20), placed("o6", line(2)), shipped("s1", "o6", line(5))],
        (15, 0, 15, 0),
    ),
    "oversold": (
        [received("opening", 1), placed("o8", line(1)), placed("o9", line(1))],
        (1, 2, -1, 1),
    ),
    "oversold, then served": (
        [
            received("opening", 1),
            placed("o8", line(2)),
            received("delivery", 4),
            shipped("s1", "o8", line(2)),
        ],
        (3, 0, 3, 0),
    ),
    "two orders, closed in parts, with a line given twice": (
        [
            received("opening", 8),
            placed("o1", line(2), line(3), line(1, "2")),
            shipped("s1", "o1", line(4)),
            cancelled("c1", "o1", line(1)),
            placed("o2", line(2)),
            shipped("s2", "o2", line(1)),
        ],
        (3, 2, 1, 0),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_order_with_duplicates_comes_to_the_same_stock(name: str) -> None:
    events, expected = SCENARIOS[name]
    rng = random.Random(name)
    assert list(oracle(events).values()) == [expected]
    for order in permutations(events):
        deliveries = list(order)
        for again in rng.choices(order, k=3):
            deliveries.insert(rng.randint(0, len(deliveries)), again)
        h = await deliver(deliveries, batch=rng.randint(1, len(deliveries)))
        assert levels(h) == expected, order
        assert h.statistics.duplicates == 3
        assert h.dead_letters == []


async def test_oversold_is_told_once_for_each_fall_below_zero() -> None:
    events = [
        received("r1", 1),
        placed("o1", line(2)),  # below
        placed("o2", line(2)),  # further below
        received("r2", 9),  # above
        placed("o3", line(5)),  # 10 - 9
        placed("o4", line(2)),  # below again
    ]
    for batch in (1, len(events)):
        h = await deliver(events, batch=batch)
        assert h.emitted_as(Oversold) == [
            Oversold(sku="SKU-1", location_id="WH-1", on_hand=1, committed=2, available=-1),
            Oversold(sku="SKU-1", location_id="WH-1", on_hand=10, committed=11, available=-1),
        ]
        assert [(e.cause, e.key) for e in h.emitted] == [("o1", "SKU-1|WH-1"), ("o4", "SKU-1|WH-1")]


async def test_stock_at_zero_is_not_oversold() -> None:
    h = await deliver([received("r1", 2), placed("o1", line(2))])
    assert levels(h) == (2, 2, 0, 0)
    assert h.emitted == []


async def test_several_lines_that_sink_one_stock_tell_it_once() -> None:
    h = await deliver([placed("o1", line(2), line(2, "2"))])
    assert [told.available for told in h.emitted_as(Oversold)] == [-4]


async def test_the_last_anomaly_tells_the_whole_excess_in_any_order() -> None:
    events = [
        received("opening", 20),
        placed("o1", line(2)),
        cancelled("c1", "o1", line(3)),
        shipped("s1", "o1", line(1)),
    ]
    for order in permutations(events):
        told = [
            each
            for each in (await deliver(order)).emitted_as(InventoryAnomaly)
            if each.kind == "over-closed"
        ]
        last = told[-1]
        assert (last.order_id, last.line_id) == ("o1", "1")
        assert (last.placed, last.cancelled, last.shipped) == (2, 3, 1)


async def test_a_line_closed_exactly_is_no_anomaly() -> None:
    events = [received("r", 9), shipped("s1", "o1", line(2)), placed("o1", line(2))]
    for order in permutations(events):
        told = (await deliver(order)).emitted_as(InventoryAnomaly)
        assert [each.kind for each in told if each.kind == "over-closed"] == []


async def test_shipping_what_never_arrived_is_told_once_for_each_fall_below_zero() -> None:
    events = [
        received("r1", 1),
        placed("o1", line(9)),
        shipped("s1", "o1", line(2)),  # -1
        shipped("s2", "o1", line(1)),  # -2
        received("r2", 5),  # 3
        shipped("s3", "o1", line(4)),  # -1
    ]
    h = await deliver(events)
    assert levels(h) == (-1, 2, -3, 3)
    assert [(each.kind, each.on_hand, each.shipped) for each in h.emitted_as(InventoryAnomaly)] == [
        ("negative-on-hand", -1, 2),
        ("negative-on-hand", -1, 7),
    ]
