"""Counts: what they say holds for their moment, and drift is told."""

from __future__ import annotations

import pytest

from streamproc_inventory import CountMismatch, InventoryProcessor
from streamproc_inventory.moves import moves_of

from .making import At, counted, deliver, ledger, levels, line, placed, received, shipped, stock


async def test_drift_is_told_as_of_the_moment_of_the_count() -> None:
    h = await deliver(
        [At(1, received("r1", 10)), At(5, received("r2", 3)), At(6, counted("n", 8, as_of=2))]
    )
    (told,) = h.emitted_as(CountMismatch)
    assert (told.count_id, told.counted, told.drift, told.applied) == ("n", 8, -2, True)
    assert told.detail == "10 were expected at that moment"
    assert levels(h) == {"on_hand": 11, "available": 11}


async def test_a_count_that_agrees_is_told_nobody() -> None:
    h = await deliver([At(1, received("r1", 10)), At(6, counted("n", 10, as_of=2))])
    assert h.emitted_as(CountMismatch) == []


async def test_a_late_move_of_before_the_count_changes_the_ledger_only() -> None:
    h = await deliver(
        [
            At(1, received("r1", 10)),
            At(1, placed("o1", line(3))),
            At(9, counted("n", 7, as_of=8)),
            At(2, shipped("s1", "o1", line(3))),
        ]
    )
    assert levels(h) == {"on_hand": 7, "available": 7}
    last = ledger(h)[-1]
    assert (last.what, last.units, last.note) == ("shipped", 3, "in count n")
    assert last.before.on_hand == last.after.on_hand == 7
    # The promise is no matter of counting: it is fulfilled whenever that is told.
    assert (last.before.committed, last.after.committed) == (3, 0)


@pytest.mark.parametrize("moves_kept", [0, 2])
async def test_a_count_of_too_long_ago_is_flagged_and_not_applied(moves_kept: int) -> None:
    events = [At(n, received(f"r{n}", 1)) for n in range(1, 6)]
    h = await deliver(
        [*events, At(6, counted("n", 90, as_of=2))],
        processor=InventoryProcessor(moves_kept=moves_kept),
    )
    assert levels(h) == {"on_hand": 5, "available": 5}
    (told,) = h.emitted_as(CountMismatch)
    assert (told.counted, told.drift, told.applied) == (90, 0, False)
    assert "too many goods moved" in told.detail
    assert ledger(h)[-1].note.startswith("outdated")


async def test_a_count_older_than_the_one_that_holds_is_flagged_and_not_applied() -> None:
    h = await deliver(
        [
            At(1, received("r1", 10)),
            At(6, counted("n2", 12, as_of=5)),
            At(7, counted("n1", 99, as_of=4)),
        ]
    )
    assert levels(h) == {"on_hand": 12, "available": 12}
    assert [(each.count_id, each.applied) for each in h.emitted_as(CountMismatch)] == [
        ("n2", True),
        ("n1", False),
    ]


async def test_late_moves_after_folded_ones_count_all_the_same() -> None:
    events = [At(second, received(f"r{second}", 1)) for second in (9, 8, 7, 6, 5, 4, 3, 2, 1)]
    h = await deliver(events, processor=InventoryProcessor(moves_kept=3))
    assert stock(h).on_hand == 9
    assert len(moves_of(stock(h).book.moves)) <= 3


async def test_a_count_rests_on_the_moves_it_knows_whatever_their_order() -> None:
    for order in ((1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3)):
        events = [At(second, received(f"r{second}", second)) for second in order]
        h = await deliver([*events, At(9, counted("n", 50, as_of=2.5))])
        assert stock(h).on_hand == 50 + 3 + 4


async def test_the_drift_of_each_stocks_last_count_is_a_metric() -> None:
    processor = InventoryProcessor()
    events = [
        At(1, received("r1", 10)),
        At(6, counted("n", 8, as_of=2)),
        At(7, counted("n2", 9, as_of=6.5, sku="SKU-2")),
        At(8, counted("n3", 9, as_of=7.5, sku="SKU-2")),
        At(9, counted("old", 99, as_of=1, sku="SKU-2")),
    ]
    await deliver(events, processor=processor)
    (collector,) = processor.collectors()
    (family,) = collector.collect()
    assert {sample.labels["sku"]: sample.value for sample in family.samples} == {
        "SKU-1": -2,
        "SKU-2": 0,
    }
