"""Reservations: each has one end, and those that nobody ends expire in time."""

from __future__ import annotations

import os
import random
from itertools import permutations

import msgspec
import pytest

from streamproc import Event
from streamproc.testing import Harness
from streamproc_inventory import InventoryAnomaly, InventoryProcessor, ReservationExpired
from streamproc_inventory.register import entries

from .making import (
    START,
    At,
    committed,
    emitted_since,
    kit,
    ledger,
    levels,
    line,
    placed,
    received,
    record,
    released,
    reserved,
    shipped,
    stock,
)

RACES = int(os.environ.get("INVENTORY_RACES", "500"))


async def test_one_of_two_expires_without_any_event() -> None:
    events = [received("r", 3), reserved("v1", 2, expires=100), reserved("v2", 1, expires=500)]
    for order in permutations(events):
        async with Harness(InventoryProcessor()) as h:
            await h.send(*order)
            await h.advance(200)
            assert levels(h) == {"on_hand": 3, "reserved": 1, "available": 2}
            (told,) = h.emitted_as(ReservationExpired)
            assert (told.reservation_id, told.quantity, told.available) == ("v1", 2, 2)
            assert entries(stock(h).book.ended) == {"v1": "expired"}


async def test_one_that_its_order_used_up_does_not_expire() -> None:
    order = placed("o7", line(2, reservation_id="v3"))
    for events in permutations([received("r", 3), reserved("v3", 2, expires=100), order]):
        async with Harness(InventoryProcessor()) as h:
            await h.send(*events)
            await h.advance(200)
            assert levels(h) == {"on_hand": 3, "committed": 2, "available": 1}
            assert h.emitted_as(ReservationExpired) == []
            assert entries(stock(h).book.ended) == {"v3": "committed"}
            assert [timer for timer in h.timers if timer.type == "ReservationDue"] == []


async def test_it_expires_at_its_moment_and_not_before() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 3), reserved("v1", 2, expires=100))
        await h.advance(99.999)
        assert stock(h).reserved == 2
        await h.advance(0.001)
        assert stock(h).reserved == 0
        assert ledger(h)[-1].what == "expired"


async def test_it_expires_when_another_worker_has_the_shard() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 3), reserved("v1", 2, expires=100))
        await h.restart()
        await h.advance(100)
        assert stock(h).reserved == 0


async def test_all_parts_of_a_kit_are_held_and_set_free() -> None:
    parts = kit(1, FRAME=1, WHEEL=2).components
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 9, "FRAME"), received("r2", 9, "WHEEL"))
        await h.send(reserved("v1", 2, 100, "KIT", components=parts))
        assert stock(h, "FRAME").reserved == 2
        assert stock(h, "WHEEL").reserved == 4
        await h.advance(100)
        assert levels(h, "FRAME") == levels(h, "WHEEL") == {"on_hand": 9, "available": 9}
        await h.send(reserved("v2", 1, 900, "KIT", components=parts))
        await h.send(placed("o1", kit(1, FRAME=1, WHEEL=2)))
        await h.send(released("v2", "KIT", components=parts))
        assert levels(h, "WHEEL") == {"on_hand": 9, "committed": 2, "available": 7}


ENDS: list[Event] = [
    released("v1"),
    committed("v1", 2, "o1"),
    placed("o1", line(2, reservation_id="v1")),
]


async def test_the_first_end_is_its_state_and_the_units_follow_all() -> None:
    for ends in permutations([*ENDS, None]):
        async with Harness(InventoryProcessor()) as h:
            await h.send(received("r", 5), reserved("v1", 2, expires=10))
            for end in ends:
                await (h.advance(20) if end is None else h.send(end))
            assert levels(h) == {"on_hand": 5, "committed": 2, "available": 3}
            first = "expired" if ends[0] is None else "committed"
            first = "released" if ends[0] is ENDS[0] else first
            assert entries(stock(h).book.ended) == {"v1": first}
            assert {e.kind for e in h.emitted_as(InventoryAnomaly)} == {"reservation-ended"}


async def test_an_end_that_comes_before_the_beginning_waits_for_it() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 5), released("v1"))
        assert list(stock(h).book.early) == ["v1"]
        await h.send(reserved("v1", 2, expires=10))
        assert levels(h) == {"on_hand": 5, "available": 5}
        assert stock(h).book.early == {}
        assert entries(stock(h).book.ended) == {"v1": "released"}


async def test_a_worker_that_was_behind_lets_what_is_in_the_stream_go_first() -> None:
    """Its timers are long due, but the order was placed in time."""
    async with Harness(InventoryProcessor()) as h:
        records = [
            record(h, At(0, received("r", 5))),
            record(h, At(1, reserved("v1", 2, expires=60))),
            record(h, At(30, placed("o1", line(2, reservation_id="v1")))),
            record(h, At(31, reserved("v2", 1, expires=50))),
            record(h, At(55, received("r2", 1))),
        ]
        h.now = START + 600  # the worker was away for ten minutes
        for each in records:
            await h.process(each)
        assert entries(stock(h).book.ended) == {"v1": "committed", "v2": "expired"}
        assert h.emitted_as(InventoryAnomaly) == []
        assert [told.reservation_id for told in h.emitted_as(ReservationExpired)] == ["v2"]


async def test_a_worker_that_was_behind_does_not_wait_for_ever() -> None:
    async with Harness(InventoryProcessor()) as h:
        made = [record(h, At(0, received("r", 5))), record(h, At(1, reserved("v1", 2, expires=60)))]
        h.now = START + 600
        for each in made:
            await h.process(each)
        assert stock(h).reserved == 2
        await h.advance(30)
        assert stock(h).reserved == 0
        assert h.timers == []


@pytest.mark.parametrize("chunk", range(5))
async def test_of_commit_and_expiry_at_the_boundary_exactly_one_wins(chunk: int) -> None:
    rng = random.Random(chunk)
    ends: list[str] = []
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r", 1_000_000))
        for trial in range(RACES // 5):
            name, order = f"v{trial}", f"o{trial}"
            told = len(h.store.outbox)
            await h.send(reserved(name, 2, expires=h.now - START + 1))
            offset = rng.choice((-0.001, 0.0, 0.001, rng.uniform(-0.01, 0.01)))
            order_event = placed(order, line(2, reservation_id=name))
            commit = rng.choice((order_event, committed(name, 2, order)))
            await h.advance(1 + offset)
            await h.send(commit)
            await h.advance(0.1)
            found = stock(h)
            ends.append(entries(found.book.ended)[name])
            assert (found.reserved, found.committed) == (0, 2)
            expired = ends[-1] == "expired"
            said = emitted_since(h, told)
            assert [kind for kind, _ in said].count("ReservationExpired") == expired
            assert [kind for kind, _ in said].count("InventoryAnomaly") == expired
            await h.send(placed(order, line(2)), shipped(f"s{trial}", order, line(2)))
    assert set(ends) == {"committed", "expired"}


def test_a_reservation_lies_in_the_state_as_two_numbers() -> None:
    from streamproc_inventory.book import Reservation

    assert msgspec.json.encode(Reservation(2, 1767225660000)) == b"[2,1767225660000]"
