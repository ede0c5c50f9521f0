"""The simulated shop: what comes of its events is what its books say, however they arrive."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from streamproc.testing import Harness
from streamproc_inventory import InventoryProcessor, Stock
from streamproc_inventory.simulation.disorder import Disorder, deliveries
from streamproc_inventory.simulation.shop import Happening, Shop, ShopSettings

SETTINGS = ShopSettings(start=datetime(2026, 1, 1, tzinfo=UTC), skus=30, orders=250)
DISORDER = Disorder(duplicates=0.05, reordered=0.2, gaps=0.01)


def day(seed: int) -> tuple[Shop, list[Happening]]:
    shop = Shop(seed, SETTINGS)
    return shop, list(shop.happenings())


@pytest.mark.parametrize("seed", range(6))
async def test_the_stock_is_that_of_the_books(seed: int) -> None:
    shop, happenings = day(seed)
    again = 0
    # Between two events of a day minutes pass, and late ones may be overtaken by hundreds.
    async with Harness(InventoryProcessor(gap_timeout=1e6)) as h:
        for delivery in deliveries(happenings, DISORDER, seed):
            happening = delivery.happening
            again += delivery.is_again
            await h.send(happening.event, time=happening.time.isoformat(), key=happening.key)
        await h.advance(86_400)
        assert h.dead_letters == []
        assert h.statistics.duplicates == again > 0
        for place, shelf in shop.shelves.items():
            found: Stock = h.state("inventory", place)
            expected = (shelf.on_hand, shelf.committed, 0, shelf.incoming, shelf.damaged)
            expected += (shelf.quality_control, shelf.safety_stock, shelf.available)
            levels = found.levels
            assert tuple(getattr(levels, n) for n in levels.__struct_fields__) == expected, place
            assert found.book.sequence == shelf.sequence


def test_a_day_has_everything_a_shop_has() -> None:
    kinds = Counter(type(each.event).__name__ for seed in range(4) for each in day(seed)[1])
    assert set(kinds) == {
        "InboundExpected", "OrderCancelled", "OrderPlaced", "OrderShipped", "ReservationCommitted",
        "ReservationCreated", "ReservationReleased", "ReturnReceived", "StockAdjusted",
        "StockCounted", "StockPolicySet", "StockReceived", "StockTransferred",
    }  # fmt: skip


def test_demand_falls_with_rank() -> None:
    orders = [each.event for each in day(1)[1] if type(each.event).__name__ == "OrderPlaced"]
    demand = Counter(line.sku for order in orders for line in order.lines)
    ranked = [count for _, count in demand.most_common()]
    assert ranked[0] > 3 * ranked[len(ranked) // 2]


def test_equal_seeds_give_equal_days_and_others_do_not() -> None:
    assert day(3)[1] == day(3)[1] != day(4)[1]


def test_times_never_fall_and_no_two_events_share_one() -> None:
    times = [each.time for each in day(2)[1]]
    assert times == sorted(set(times))


def test_order_comes_without_disorder_and_disorder_by_its_rates() -> None:
    _, happenings = day(1)
    assert [each.happening for each in deliveries(happenings, Disorder(), 1)] == happenings
    arrived = list(deliveries(happenings, DISORDER, 1))
    firsts = [each.happening for each in arrived if not each.is_again]
    assert Counter(map(id, firsts)) == Counter(map(id, happenings))
    late = sum(here.time > after.time for here, after in pairwise(firsts))
    assert 0.1 < late / len(firsts) < 0.3
    assert 0.03 < sum(each.is_again for each in arrived) / len(firsts) < 0.07
