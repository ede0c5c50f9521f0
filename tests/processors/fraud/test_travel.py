"""Impossible travel: found whichever payment comes first, never where the way can be made."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from streamproc.testing import Harness
from streamproc_fraud import Geo, PaymentAuthorized
from streamproc_fraud.features.card import Place
from streamproc_fraud.features.travel import MAX_PLACES, distance_km, travel

from .payments import START, alerts, payment, processor, rule, rule_set

EARTH_KM = 6_371.0088


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        ((52.3676, 4.9041), (48.8566, 2.3522), 430),  # Amsterdam, Paris
        ((51.5074, -0.1278), (-33.8688, 151.2093), 16_994),  # London, Sydney
        ((0, 179.9), (0, -179.9), 22.2),  # across the date line
        ((90, 0), (90, 120), 0),
        ((0, 0), (0, 180), math.pi * EARTH_KM),
    ],
)
def test_distances_are_those_of_the_globe(
    one: tuple[float, float], other: tuple[float, float], km: float
) -> None:
    assert distance_km(*one, *other) == pytest.approx(km, rel=2e-3, abs=1e-6)
    assert distance_km(*other, *one) == pytest.approx(distance_km(*one, *other))


def away(rng: random.Random, lat: float, lon: float, km: float) -> Geo:
    """Return a place `km` from another, by the sphere's own formula for a bearing."""
    angle, bearing = km / EARTH_KM, rng.uniform(0, 2 * math.pi)
    phi = math.radians(lat)
    other = math.asin(
        math.sin(phi) * math.cos(angle) + math.cos(phi) * math.sin(angle) * math.cos(bearing)
    )
    turn = math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(phi),
        math.cos(angle) - math.sin(phi) * math.sin(other),
    )
    return Geo(math.degrees(other), (lon + math.degrees(turn) + 540) % 360 - 180)


def pair(rng: random.Random, number: int, legal: bool) -> list[tuple[PaymentAuthorized, float]]:
    """Return two payments of a card, in the order of time."""
    lat, lon = rng.uniform(-80, 80), rng.uniform(-180, 180)
    hours = rng.uniform(0.2, 10)
    kmh = rng.uniform(1, 899) if legal else rng.uniform(901, 5_000)
    # A way of a few kilometres in no time is a matter of the terminals' places.
    km = min(kmh * hours, 15_000) if legal else min(max(kmh * hours, 51), 15_000)
    hours = km / kmh
    name = f"{'legal' if legal else 'illegal'}-{number}"
    there = away(rng, lat, lon, km)
    return [
        (payment(f"{name}-a", card=name, geo=Geo(lat, lon)), START),
        (payment(f"{name}-b", card=name, geo=there), START + hours * 3_600),
    ]


async def test_of_legal_and_illegal_pairs_in_both_orders_all_and_only_the_illegal_are_found(
    tmp_path: Path,
) -> None:
    rng = random.Random(9)
    pairs = [pair(rng, n, legal) for n in range(1_000) for legal in (True, False)]
    async with Harness(processor(tmp_path, rule_set(rule("travel", "travel_kmh > 900")))) as h:
        for number, two in enumerate(pairs):
            if number // 2 % 2:  # half of each kind the wrong way round
                two.reverse()
            for paid, time in two:
                await h.send(paid, time=time)
        found = {alert.card_id for alert in alerts(h)}
        # The one that came second is told of, whichever was made first.
        second = {two[1][0].payment_id for two in pairs if "illegal" in two[1][0].card_id}
        assert {alert.payment_id for alert in alerts(h)} == second
    assert found == {f"illegal-{n}" for n in range(1_000)}


async def test_a_late_payment_is_held_against_both_its_neighbours(tmp_path: Path) -> None:
    amsterdam, sydney = Geo(52.37, 4.9), Geo(-33.87, 151.21)
    async with Harness(processor(tmp_path, rule_set(rule("travel", "travel_kmh > 900")))) as h:
        await h.send(payment("first", geo=amsterdam), time=START)
        await h.send(payment("last", geo=amsterdam), time=START + 48 * 3_600)
        await h.send(payment("possible", geo=sydney), time=START + 24 * 3_600)
        await h.send(payment("too-near-the-last", geo=sydney), time=START + 47 * 3_600)
        assert [alert.payment_id for alert in alerts(h)] == ["too-near-the-last"]


def test_short_ways_and_equal_times_do_not_divide_by_zero() -> None:
    places = [Place(0, 52.0, 4.0)]
    assert travel(places, Place(0, 52.1, 4.0))[1] == 0  # 11 km
    km, kmh = travel(places, Place(0, 60.0, 4.0))
    assert kmh == pytest.approx(km * 3_600)  # as if it had taken a second
    assert all(math.isnan(x) for x in travel([], Place(0, 1.0, 1.0)))


def test_the_places_of_a_card_are_bounded() -> None:
    places: list[Place] = []
    for number in range(100):
        travel(places, Place(number, 1.0, 1.0))
    assert [place.time_us for place in places] == list(range(100 - MAX_PLACES, 100))
