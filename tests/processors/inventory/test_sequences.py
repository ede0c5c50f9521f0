"""Numbered events: applied in their order, dropped when old, parked when early."""

from __future__ import annotations

import itertools

import msgspec

from streamproc.testing import Harness
from streamproc_inventory import InventoryAnomaly, InventoryProcessor, SequenceGap

from .making import (
    At,
    adjusted,
    counted,
    deliver,
    ledger,
    levels,
    line,
    placed,
    received,
    record,
    released,
    shipped,
    stock,
)


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
    assert stock(h).book.moves == " 1767225603000:1 1767225609000:5"
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


async def test_a_gap_is_told_within_5_seconds_and_again_when_it_is_filled() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r2", 5, sequence=2), received("r3", 5, sequence=3))
        await h.advance(5)
        assert h.emitted_as(SequenceGap) == [SequenceGap("SKU-1", "WH-1", "open", 1, 2)]
        assert stock(h).on_hand == 0
        await h.send(received("r1", 1, sequence=1))
        assert stock(h).on_hand == 11
        assert h.emitted_as(SequenceGap)[1:] == [SequenceGap("SKU-1", "WH-1", "filled", 1, 2)]
        assert h.timers == []
        await h.advance(1_000)
        assert len(h.emitted_as(SequenceGap)) == 2
        assert h.dead_letters == []


async def test_a_gap_that_is_filled_at_once_is_told_nobody() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r2", 5, sequence=2))
        await h.advance(2)
        await h.send(received("r1", 1, sequence=1))
        await h.advance(1_000)
        assert h.emitted_as(SequenceGap) == []
        assert h.timers == []


async def test_what_waits_for_a_gap_that_stays_goes_to_the_dead_letters_with_an_alarm() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 1, sequence=1), received("r4", 5, sequence=4))
        await h.send(received("r3", 5, sequence=3))
        await h.advance(301)
        assert [
            (each.status, each.missing, each.waiting) for each in h.emitted_as(SequenceGap)
        ] == [
            ("open", 2, 2),
            ("timed-out", 2, 2),
        ]
        assert [each.reason for each in h.dead_letters] == ["sequence-gap"] * 2
        overdue = [msgspec.json.decode(each.data)["data"] for each in h.dead_letters]
        assert [(each["sequence"], each["eventId"]) for each in overdue] == [(3, "r3"), (4, "r4")]
        assert stock(h).on_hand == 1
        assert stock(h).book.parked == {}
        # Later versions are still not applied.
        await h.send(received("r5", 7, sequence=5))
        assert stock(h).on_hand == 1


async def test_dead_letters_of_a_gap_are_applied_when_redriven_after_it_is_filled() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r2", 2, sequence=2), received("r3", 3, sequence=3))
        await h.advance(301)
        letters = [each.data for each in h.dead_letters]
        await h.send_raw(letters[0])
        assert [each.reason for each in h.dead_letters] == ["sequence-gap"] * 3
        await h.send(received("r1", 1, sequence=1))
        await h.send_raw(*letters)
        assert stock(h).on_hand == 6
        assert [entry.event_id for entry in ledger(h)] == ["r1", "r2", "r3"]
        assert len(h.dead_letters) == 3


async def test_a_gap_behind_a_filled_one_is_told_by_itself() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r2", 1, sequence=2), received("r4", 1, sequence=4))
        await h.send(received("r1", 1, sequence=1))
        await h.advance(5)
        assert [(each.status, each.missing) for each in h.emitted_as(SequenceGap)] == [("open", 3)]


async def test_a_worker_that_was_behind_counts_from_now() -> None:
    async with Harness(InventoryProcessor()) as h:
        late = record(h, At(1, received("r2", 1, sequence=2)))
        missing = record(h, At(0, received("r1", 1, sequence=1)))
        h.now += 3_600
        await h.process(late)
        await h.process(missing)
        await h.advance(600)
        assert h.emitted_as(SequenceGap) == []
        assert h.dead_letters == []


async def test_an_order_that_does_not_come_is_told_and_in_the_end_given_up() -> None:
    async with Harness(InventoryProcessor(order_wait=3_600, max_lateness=7_200)) as h:
        await h.send(received("r", 9), shipped("s1", "o1", line(2)), released("v9"))
        assert [timer.type for timer in h.timers] == ["StockReviewDue"]
        await h.advance(3_600)
        told = [(e.kind, e.subject, e.quantity) for e in h.emitted_as(InventoryAnomaly)]
        assert told == [("order-missing", "o1/1", 1), ("reservation-missing", "v9", 1)]
        await h.advance(3_600 * 2)
        book = stock(h).book
        assert book.lines == book.early == {}
        assert h.emitted_as(InventoryAnomaly)[-1].kind == "order-forgotten"
        assert ledger(h)[-1].what == "forgotten"
        assert levels(h) == {"on_hand": 7, "available": 7}
        assert h.timers == []


async def test_an_order_that_comes_in_time_is_told_nobody() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 9), shipped("s1", "o1", line(2)))
        await h.send(placed("o1", line(2)))
        await h.advance(10_000)
        assert h.emitted_as(InventoryAnomaly) == []
        assert h.timers == []
