"""Numbered events: applied in their order, dropped when old, parked when early."""

from __future__ import annotations

import itertools

from streamproc.testing import Harness
from streamproc_inventory import InventoryAnomaly, InventoryProcessor

from .making import At, adjusted, counted, deliver, ledger, levels, line, placed, received, stock


async def test_an_early_event_waits_for_those_before_it() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 5, sequence=1), adjusted("a3", 2, sequence=3))
        assert stock(h).on_hand == 5
        assert list(stock(h).book.parked) == [3]
        assert [entry.event_id for entry in ledger(h)] == ["r1"]
        await h.send(placed("o2", line(4, sequence=2)))
        assert levels(h) == {"on_hand": 7, "committed": 4, "available": 3}
        assert stock(h).book.parked == {}
        assert [entry.event_id for entry in ledger(h)] == ["r1", "o2", "a3"]
        assert stock(h).book.sequence == 3


async def test_every_order_is_applied_in_the_sequence() -> None:
    events = [received(f"r{n}", n, sequence=n) for n in range(1, 6)]
    for order in itertools.permutations(events):
        h = await deliver(order)
        assert [entry.event_id for entry in ledger(h)] == ["r1", "r2", "r3", "r4", "r5"]
        assert levels(h) == {"on_hand": 15, "available": 15}


async def test_what_was_parked_keeps_its_own_time_and_name() -> None:
    h = await deliver([At(9, received("r2", 5, sequence=2)), At(3, received("r1", 1, sequence=1))])
    assert stock(h).book.moves == [(1767225603000, 1), (1767225609000, 5)]
    assert [entry.event_type for entry in ledger(h)] == ["StockReceived", "StockReceived"]


async def test_an_old_number_is_dropped_and_told() -> None:
    h = await deliver([received("r1", 5, sequence=1), received("r1b", 7, sequence=1)])
    assert levels(h) == {"on_hand": 5, "available": 5}
    (told,) = h.emitted_as(InventoryAnomaly)
    assert (told.kind, told.subject, told.quantity) == ("stale-sequence", "1", 7)


async def test_a_number_that_waits_already_is_dropped_and_told() -> None:
    h = await deliver([received("r2", 5, sequence=2), received("r2b", 7, sequence=2)])
    (told,) = h.emitted_as(InventoryAnomaly)
    assert (told.kind, told.subject, told.quantity) == ("sequence-reused", "2", 7)
    assert [parked.event_id for parked in stock(h).book.parked.values()] == ["r2"]


async def test_events_without_a_number_do_not_wait() -> None:
    h = await deliver([received("r2", 5, sequence=2), received("r", 1)])
    assert levels(h) == {"on_hand": 1, "available": 1}


async def test_too_many_that_wait_are_dead_letters_and_the_missing_one_is_not() -> None:
    h = await deliver(
        [
            received("r2", 1, sequence=2),
            received("r3", 1, sequence=3),
            received("r4", 1, sequence=4),
            received("r1", 1, sequence=1),
        ],
        processor=InventoryProcessor(max_parked=2),
    )
    assert [(e.event_id, e.reason) for e in h.dead_letters] == [("r4", "too-many-parked")]
    assert stock(h).on_hand == 3


async def test_a_count_that_holds_the_missing_ones_closes_the_gap() -> None:
    h = await deliver(
        [
            At(1, received("r1", 5, sequence=1)),
            At(4, placed("o3", line(2, sequence=3))),
            At(5, received("r5", 1, sequence=5)),
            At(6, received("r7", 4, sequence=7)),
            At(9, counted("n", 20, as_of=5.5, through_sequence=5)),
        ]
    )
    # r5 is in the count, r7 waits for number 6.
    assert levels(h) == {"on_hand": 20, "committed": 2, "available": 18}
    assert stock(h).book.sequence == 5
    assert list(stock(h).book.parked) == [7]
    assert [entry.event_id for entry in ledger(h)] == ["r1", "n", "o3", "r5"]
    assert ledger(h)[-1].note == "in count n"


async def test_parked_events_survive_a_new_worker() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r2", 5, sequence=2), counted("n3", 9, as_of=0, sequence=3))
        await h.restart()
        await h.send(received("r1", 1, sequence=1))
        assert [entry.event_id for entry in ledger(h)] == ["r1", "r2", "n3"]
