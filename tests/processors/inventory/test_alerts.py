"""Alerts: each crossing is told once, with what is needed to act."""

from __future__ import annotations

from streamproc_inventory import BackInStock, InventoryProcessor, Oversold, StockLow

from .making import deliver, levels, line, placed, policy, received


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
        told = [(each.oversold, each.on_hand, each.committed) for each in h.emitted_as(Oversold)]
        assert told == [(1, 1, 2), (1, 10, 11)]
        causes = [(e.cause, e.key) for e in h.emitted if e.type == "Oversold"]
        assert causes == [("o1", "SKU-1|WH-1"), ("o4", "SKU-1|WH-1")]


async def test_stock_at_zero_is_not_oversold() -> None:
    h = await deliver([received("r1", 2), placed("o1", line(2))])
    assert levels(h) == {"on_hand": 2, "committed": 2}
    assert h.emitted_as(Oversold) == []


async def test_several_lines_that_sink_one_stock_tell_it_once() -> None:
    h = await deliver([placed("o1", line(2), line(2, "2"))])
    assert [told.available for told in h.emitted_as(Oversold)] == [-4]


async def test_low_stock_is_told_again_only_after_it_was_well_above() -> None:
    h = await deliver(
        [
            received("r1", 11),
            placed("o1", line(6)),  # 5: told
            received("r2", 4),  # 9: not above 10
            placed("o2", line(5)),  # 4
            received("r3", 7),  # 11: armed again
            placed("o3", line(9)),  # 2: told
        ]
    )
    told = [(each.available, each.threshold, each.rearm) for each in h.emitted_as(StockLow)]
    assert told == [(5, 5, 10), (2, 5, 10)]


async def test_a_stock_that_was_never_above_is_not_low() -> None:
    h = await deliver([received("r1", 3), placed("o1", line(2))])
    assert h.emitted_as(StockLow) == []


async def test_a_policy_sets_the_thresholds_of_its_stock() -> None:
    h = await deliver(
        [
            policy("p1", 2, low_stock=20, low_stock_rearm=30),
            received("r1", 40),  # 38 available
            placed("o1", line(18)),  # 20: told
            policy("p2", 0, low_stock=1),  # 22 available
            placed("o2", line(20)),  # 2
            placed("o3", line(1)),  # 1: told
        ],
        processor=InventoryProcessor(low_stock=0, low_stock_rearm=0),
    )
    assert [(e.available, e.threshold) for e in h.emitted_as(StockLow)] == [(20, 20), (1, 1)]


async def test_back_in_stock_is_told_for_each_rise_above_zero() -> None:
    h = await deliver(
        [
            received("r1", 1),
            placed("o1", line(2)),  # -1
            received("r2", 1),  # 0
            received("r3", 1),  # 1: told
            received("r4", 1),
        ]
    )
    assert [(e.available, e.version) for e in h.emitted_as(BackInStock)] == [(1, 1), (1, 4)]
