"""Known histories with known ends, in every order of delivery and with duplicates."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from streamproc import Event

from .making import (
    OTHER,
    SKU,
    WAREHOUSE,
    At,
    adjusted,
    back_in_stock,
    cancelled,
    committed,
    counted,
    deliver,
    expected,
    kit,
    levels,
    line,
    placed,
    policy,
    received,
    released,
    reserved,
    returned,
    shipped,
    stock,
    transferred,
)

LATER = 1e6
"""An expiry that does not come."""

Ends = dict[tuple[str, str], dict[str, int]]


def ends(sku: str = SKU, at: str = WAREHOUSE, **levels: int) -> Ends:
    return {(sku, at): levels}


SCENARIOS: dict[str, tuple[Sequence[Event | At], Ends]] = {
    "a sale": (
        [received("r", 10), placed("o1", line(3)), shipped("s1", "o1", line(3))],
        ends(on_hand=7, available=7),
    ),
    "an order waits": (
        [received("r", 10), placed("o1", line(3))],
        ends(on_hand=10, committed=3, available=7),
    ),
    "cancelled before it is shipped": (
        [received("r", 5), placed("o2", line(2)), cancelled("c1", "o2", line(2))],
        ends(on_hand=5, available=5),
    ),
    "shipped in part": (
        [received("r", 5), placed("o3", line(2)), shipped("s1", "o3", line(1))],
        ends(on_hand=4, committed=1, available=3),
    ),
    "cancelled in part and shipped in part": (
        [
            received("r", 20),
            placed("o4", line(10)),
            cancelled("c1", "o4", line(3)),
            shipped("s1", "o4", line(5)),
        ],
        ends(on_hand=15, committed=2, available=13),
    ),
    "more cancelled than placed": (
        [received("r", 20), placed("o5", line(2)), cancelled("c1", "o5", line(5))],
        ends(on_hand=20, available=20),
    ),
    "more shipped than placed": (
        [received("r", 20), placed("o5", line(2)), shipped("s1", "o5", line(5))],
        ends(on_hand=15, available=15),
    ),
    "returns to sell and to throw away": (
        [
            received("r", 10),
            placed("o6", line(4)),
            shipped("s1", "o6", line(4)),
            returned("b1", "o6", 1),
            returned("b2", "o6", 2, "damaged"),
        ],
        ends(on_hand=9, damaged=2, available=7),
    ),
    "returns to look at": (
        [
            received("r", 10),
            placed("o6", line(4)),
            shipped("s1", "o6", line(4)),
            returned("b1", "o6", 3, "quality_control"),
        ],
        ends(on_hand=9, quality_control=3, available=6),
    ),
    "a reservation released, another live": (
        [
            received("r", 3),
            reserved("r1", 2, LATER),
            released("r1"),
            reserved("r2", 1, LATER),
        ],
        ends(on_hand=3, reserved=1, available=2),
    ),
    "a reservation that its order uses up": (
        [
            received("r", 3),
            reserved("r3", 2, LATER),
            placed("o7", line(2, reservation_id="r3")),
        ],
        ends(on_hand=3, committed=2, available=1),
    ),
    "a reservation committed before its order": (
        [received("r", 3), reserved("r3", 2, LATER), committed("r3", 2, "o7")],
        ends(on_hand=3, committed=2, available=1),
    ),
    "a reservation committed, its order of less, shipped": (
        [
            received("r", 5),
            reserved("r3", 3, LATER),
            committed("r3", 3, "o7"),
            placed("o7", line(2)),
            shipped("s1", "o7", line(1)),
        ],
        ends(on_hand=4, committed=1, available=3),
    ),
    "oversold": (
        [received("r", 1), placed("o8", line(1)), placed("o9", line(1))],
        ends(on_hand=1, committed=2, available=-1),
    ),
    "back in stock from incoming": (
        [expected("i", 40), back_in_stock("r", 40, from_incoming=40)],
        ends(on_hand=40, available=40),
    ),
    "some of the incoming arrived": (
        [expected("i", 40), received("r", 15, from_incoming=10)],
        ends(on_hand=15, incoming=30, available=15),
    ),
    "a count, with one lost before it and five come after it": (
        [
            At(0, received("r", 10)),
            At(1, placed("o10", line(2))),
            At(2, shipped("s1", "o10", line(2))),
            At(4, counted("n1", 7, as_of=3)),
            At(5, back_in_stock("r2", 5)),
        ],
        ends(on_hand=12, available=12),
    ),
    "two counts, of which the later holds": (
        [
            At(0, received("r", 10)),
            At(4, counted("n1", 7, as_of=3)),
            At(5, received("r2", 5)),
            At(9, counted("n2", 20, as_of=6)),
            At(7, received("r3", 1)),
        ],
        ends(on_hand=21, available=21),
    ),
    "a move at the very moment of a count is in it": (
        [At(3, received("r", 10)), At(3, counted("n1", 4, as_of=3)), At(3.001, received("s", 1))],
        ends(on_hand=5, available=5),
    ),
    "two counts of one moment, of which the one with the greater id holds": (
        [At(1, received("r", 10)), counted("n1", 7, as_of=3), counted("n2", 8, as_of=3)],
        ends(on_hand=8, available=8),
    ),
    "goods sent by adjustments": (
        [
            received("r", 10),
            received("r2", 1, at=OTHER),
            adjusted("a1", -4, "transfer_out"),
            expected("i", 4, at=OTHER),
            received("r3", 4, at=OTHER, from_incoming=4),
        ],
        ends(on_hand=6, available=6) | ends(at=OTHER, on_hand=5, available=5),
    ),
    "a transfer under way": (
        [received("r", 10), transferred("m1", "out", 4)],
        ends(on_hand=6, available=6) | ends(at=OTHER, incoming=4),
    ),
    "a transfer, of which some was lost": (
        [
            received("r", 10),
            transferred("m1", "out", 4),
            transferred("m2", "in", 3),
            transferred("m3", "lost", 1),
        ],
        ends(on_hand=6, available=6) | ends(at=OTHER, on_hand=3, available=3),
    ),
    "a kit": (
        [
            received("r1", 3, "FRAME"),
            received("r2", 5, "WHEEL"),
            placed("o1", kit(2, FRAME=1, WHEEL=2), line(1, "2", "FRAME")),
            shipped("s1", "o1", kit(1, FRAME=1, WHEEL=2)),
        ],
        ends("FRAME", on_hand=2, committed=2)
        | ends("WHEEL", on_hand=3, committed=2, available=1)
        | ends("KIT"),
    ),
    "safety stock, of which the latest setting holds": (
        [received("r", 9), At(5, policy("p1", 3)), At(6, policy("p2", 2))],
        ends(on_hand=9, safety_stock=2, available=7),
    ),
    "damaged goods thrown away, found and more taken out than in": (
        [
            received("r", 9),
            adjusted("a1", 2, condition="damaged"),
            adjusted("a2", -1, "scrapped", condition="damaged"),
            adjusted("a3", -1, "scrapped", condition="quality_control"),
        ],
        ends(on_hand=9, damaged=1, available=8),
    ),
    "two orders, closed in parts, with a line given twice": (
        [
            received("r", 8),
            placed("o1", line(2), line(3), line(1, "2")),
            shipped("s1", "o1", line(4)),
            cancelled("c1", "o1", line(1)),
            placed("o2", line(2)),
            shipped("s2", "o2", line(1)),
        ],
        ends(on_hand=3, committed=2, available=1),
    ),
    "numbered events": (
        [
            received("r", 8, sequence=1),
            placed("o1", line(2, sequence=2)),
            adjusted("a", -1, "theft", sequence=3),
            shipped("s1", "o1", line(2, sequence=4)),
        ],
        ends(on_hand=5, available=5),
    ),
}


def orders(events: Sequence[Any], rng: random.Random) -> Iterator[Sequence[Any]]:
    """Yield every order of up to 6 events, else 400."""
    if len(events) <= 6:
        yield from itertools.permutations(events)
    else:
        for _ in range(400):
            yield rng.sample(list(events), len(events))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_order_with_duplicates_comes_to_the_same_levels(name: str) -> None:
    events, expected_ends = SCENARIOS[name]
    rng = random.Random(name)
    for order in orders(events, rng):
        deliveries = list(order)
        for again in rng.choices(order, k=3):
            deliveries.insert(rng.randint(0, len(deliveries)), again)
        h = await deliver(deliveries, batch=rng.randint(1, len(deliveries)))
        assert {at: levels(h, *at) for at in expected_ends} == expected_ends, order
        for at in expected_ends:
            assert stock(h, *at).oversold == max(0, -stock(h, *at).available)
        assert h.statistics.duplicates == 3
        assert h.dead_letters == []
