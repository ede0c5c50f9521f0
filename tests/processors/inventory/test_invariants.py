"""What holds after every delivery of any history, however it arrives.

`INVENTORY_HISTORIES` says how many; the invariants' numbers are those of
docs/inventory.md.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from streamproc import Context, Policy, Processor, on
from streamproc.testing import Harness
from streamproc_inventory import (
    BackInStock,
    InventoryProcessor,
    LedgerEntry,
    OrderPlaced,
    OrderShipped,
    Stock,
    StockLow,
)
from streamproc_inventory.moves import moves_of
from streamproc_inventory.register import entries as entries_of

from .histories import PLACES, Historian
from .making import (
    At,
    deliver,
    emitted_since,
    kit,
    levels,
    line,
    placed,
    received,
    record,
    shipped,
    stock,
)
from .oracle import Facts, Place

HISTORIES = int(os.environ.get("INVENTORY_HISTORIES", "150"))
CHUNKS = 10


class Watcher:
    """Looks at all stocks and the outbox after each delivery, and fails where they are wrong."""

    def __init__(self, h: Harness) -> None:
        self._h = h
        self._versions: dict[Place, int] = defaultdict(int)
        self._told = 0
        self._ledger: dict[Place, tuple[int, tuple[int, ...]]] = {}
        self._ends: dict[tuple[Place, str], str] = {}
        self._facts = Facts([])

    def look(self, each: At) -> None:
        self._facts.add(each)
        emitted = emitted_since(self._h, self._told)
        self._told += len(emitted)
        entries = [msgspec.convert(p, LedgerEntry) for kind, p in emitted if kind == "LedgerEntry"]
        anomalies = {
            (p["kind"], p["sku"], p["locationId"])
            for kind, p in emitted
            if kind == "InventoryAnomaly"
        }
        # A stock without an entry has not changed: that its version still is the ledger's says so.
        for place in {(entry.sku, entry.location_id) for entry in entries}:
            found = stock(self._h, *place)
            self._check_levels(place, found, anomalies)
            self._check_reservations(place, found)
            self._check_ledger(
                place, found, [e for e in entries if (e.sku, e.location_id) == place]
            )
            self._check_against_the_set(place, found)
        self._check_transfers(entries)

    def look_at_all(self) -> None:
        """Make sure that no stock has changed without an entry in its ledger."""
        for place in PLACES:
            found = stock(self._h, *place)
            self._check_ledger(place, found, [])
            self._check_against_the_set(place, found)

    def _check_levels(self, place: Place, found: Stock, anomalies: set[Any]) -> None:
        held = found.damaged + found.quality_control + found.safety_stock
        # 2: the identity of available.
        assert found.available == found.on_hand - found.committed - found.reserved - held
        assert found.oversold == max(0, -found.available)
        # 3: none of these below zero; on_hand only with an anomaly.
        assert min(found.committed, found.reserved, found.damaged, found.quality_control) >= 0
        before = self._ledger.get(place, (0, (0,)))[1][0]
        if found.on_hand < 0 <= before:
            assert ("negative-on-hand", *place) in anomalies
        # 4: sums of what is open.
        book = found.book
        assert found.committed == sum(book.open_units(key) for key in book.lines)
        assert found.reserved == sum(each.quantity for each in book.reservations.values())
        settled = entries_of(book.settled)
        assert not book.lines.keys() & settled.keys()
        assert all(book.open_units(key) == 0 for key in settled)
        kept = (book.settled_kept, book.ended_kept, book.moves_kept)
        assert kept == (len(settled), len(entries_of(book.ended)), len(moves_of(book.moves)))

    def _check_reservations(self, place: Place, found: Stock) -> None:
        # 7: one terminal state, which does not change.
        book = found.book
        ended = entries_of(book.ended)
        assert not book.reservations.keys() & ended.keys()
        for name, end in ended.items():
            assert self._ends.setdefault((place, name), end) == end

    def _check_ledger(self, place: Place, found: Stock, entries: list[LedgerEntry]) -> None:
        # 1 and 13: entries are numbered without a break, each goes on from the one before it, and
        # together they are the level.
        version, levels = self._ledger.get(place, (0, (0,) * 8))
        for entry in entries:
            assert entry.version == version + 1
            assert msgspec.to_builtins(entry.before) == list(levels)
            version, levels = entry.version, tuple(msgspec.to_builtins(entry.after))
            if entry.note.startswith("in count"):
                # 11: what a count has already changes nothing on hand.
                assert entry.before.on_hand == entry.after.on_hand
            elif entry.what in ("shipped", "dispatched"):
                assert entry.after.on_hand - entry.before.on_hand == -entry.units
            elif entry.what in ("received", "returned", "arrived", "adjusted"):
                assert entry.after.on_hand - entry.before.on_hand == entry.units
            elif entry.what != "counted":
                assert entry.after.on_hand == entry.before.on_hand
        assert (found.version, list(levels)) == (version, msgspec.to_builtins(found.levels))
        self._ledger[place] = (version, levels)

    def _check_against_the_set(self, place: Place, found: Stock) -> None:
        # 5: the levels are those of the set of events, whatever their order.
        assert msgspec.structs.asdict(found.levels) == self._facts.levels(place), place
        # 8: contradictions are counted, not lost.
        over = {k for k in self._facts.over_closed() if k[0] == place}
        assert (found.book.over_closed > 0) == bool(over)

    def _check_transfers(self, entries: list[LedgerEntry]) -> None:
        # 9: what leaves a location is on its way or has arrived; where a count holds the goods
        # already, that count stands for their move.
        moved = 0
        for entry in entries:
            if entry.what in ("dispatched", "in-transit", "arrived"):
                moved += entry.after.incoming - entry.before.incoming
                if entry.what != "in-transit":
                    moved += -entry.units if entry.what == "dispatched" else entry.units
        assert moved == 0


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_invariants_hold_after_every_delivery(chunk: int) -> None:
    """Invariants 1 to 5, 7 to 9, 11 and 13."""
    for seed in range(chunk, HISTORIES, CHUNKS):
        historian = Historian(seed)
        history = historian.history()
        async with Harness(InventoryProcessor()) as h:
            watcher = Watcher(h)
            for each in historian.deliveries(history):
                await h.process(record(h, each))
                try:
                    watcher.look(each)
                except AssertionError as error:
                    raise AssertionError(f"history {seed}, at {each}: {error}") from error
            watcher.look_at_all()
            assert h.dead_letters == []


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_a_new_worker_goes_on_from_what_is_stored(chunk: int) -> None:
    """Invariant 6: a snapshot and the events after it are the events from the beginning."""
    for seed in range(chunk, HISTORIES, 5 * CHUNKS):
        historian = Historian(seed)
        deliveries = historian.deliveries(historian.history())
        whole = await deliver(deliveries)
        cut = historian.rng.randint(0, len(deliveries))
        async with Harness(InventoryProcessor()) as h:
            for each in deliveries[:cut]:
                await h.process(record(h, each))
            await h.restart()
            for each in deliveries[cut:]:
                await h.process(record(h, each))
        for place in PLACES:
            assert stock(h, *place) == stock(whole, *place)
        assert h.emitted == whole.emitted


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_batches_do_not_show(chunk: int) -> None:
    for seed in range(chunk, HISTORIES, 5 * CHUNKS):
        historian = Historian(seed)
        deliveries = historian.deliveries(historian.history())
        one_by_one = await deliver(deliveries)
        at_once = await deliver(deliveries, batch=len(deliveries))
        assert at_once.emitted == one_by_one.emitted
        for place in PLACES:
            assert stock(at_once, *place) == stock(one_by_one, *place)


async def test_a_sawtooth_tells_each_crossing_once() -> None:
    """Invariant 10, over 1,000 steps with noise inside the hysteresis."""
    async with Harness(InventoryProcessor(low_stock=5, low_stock_rearm=10)) as h:
        available, low, back, armed = 0, 0, 0, False
        for step in range(1_000):
            target = abs(step % 40 - 20) - 3 + (1 if step % 2 else 0)  # 17 down to -3 and up again
            units = target - available
            if units > 0:
                await h.send(received(f"r{step}", units))
            elif units < 0:
                await h.send(placed(f"o{step}", line(-units)))
            low += armed and target <= 5
            back += available <= 0 < target
            armed = target > 10 or (armed and target > 5)
            available = target
        assert stock(h).available == available
        assert len(h.emitted_as(StockLow)) == low == 25
        assert len(h.emitted_as(BackInStock)) == back >= 25


class Failing(Processor):
    """Fails for good on every third order and shipment, after the inventory did its part."""

    policy = Policy(attempts=1)

    @on(OrderPlaced)
    def place(self, event: OrderPlaced, ctx: Context) -> None:
        self._fail(event.order_id)

    @on(OrderShipped)
    def ship(self, event: OrderShipped, ctx: Context) -> None:
        self._fail(event.order_id)

    def _fail(self, order_id: str) -> None:
        if int(order_id.removeprefix("o")) % 3 == 0:
            raise RuntimeError("injected")


async def test_a_kit_moves_all_its_components_or_none() -> None:
    """Invariant 12, with events that fail for good half-way among those that do not."""
    bicycle = {"FRAME": 1, "WHEEL": 2, "BELL": 3}
    async with Harness(InventoryProcessor(), Failing()) as h:
        await h.send(*[received(f"r-{sku}", 1_000, sku) for sku in bicycle])
        for batch in range(20):
            orders = [f"o{7 * batch + n}" for n in range(7)]
            await h.send(*[placed(order, kit(2, **bicycle)) for order in orders])
            await h.send(*[shipped(f"s{order}", order, kit(1, **bicycle)) for order in orders])
            frame, wheel, bell = (stock(h, sku).levels for sku in bicycle)
            assert frame.committed * 6 == wheel.committed * 3 == bell.committed * 2
            assert (1_000 - frame.on_hand) * 6 == (1_000 - wheel.on_hand) * 3
            assert (1_000 - wheel.on_hand) * 3 == (1_000 - bell.on_hand) * 2
        assert len(h.dead_letters) == 2 * 47
        assert levels(h, "FRAME") == {"on_hand": 907, "committed": 93, "available": 814}
