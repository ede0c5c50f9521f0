"""Impossible travel: how fast a card would have had to move between two payments."""

from __future__ import annotations

from bisect import bisect_right
from math import asin, cos, nan, radians, sin, sqrt
from typing import Final

from streamproc_fraud.features.card import Place

__all__ = ["LEAST_KM", "MAX_PLACES", "distance_km", "travel"]

EARTH_RADIUS_KM: Final = 6_371.0088
"""The mean radius (IUGG); along a great circle this errs by at most 0.6 %."""

LEAST_KM: Final = 50.0
"""Shorter ways count as no travel: places are often those of a city or of a network's exit."""

MAX_PLACES: Final = 16
_LEAST_HOURS: Final = 1 / 3_600


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Return the great-circle distance of two places in degrees (haversine)."""
    phi, other_phi = radians(lat), radians(other_lat)
    half_chord = (
        sin((other_phi - phi) / 2) ** 2
        + cos(phi) * cos(other_phi) * sin(radians(other_lon - lon) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half_chord)))


def travel(places: list[Place], place: Place) -> tuple[float, float]:
    """Put `place` in; return km and km/h of the faster of the ways that it is an end of.

    Places are in order of event time, so it does not matter which of two payments arrives first.
    NaN without a neighbour; a way of less than `LEAST_KM` counts as 0 km/h; less than a second
    counts as one.
    """
    at = bisect_right(places, place.time_us, key=lambda held: held.time_us)
    km, kmh = nan, nan
    for neighbour in places[max(0, at - 1) : at + 1]:
        way = distance_km(place.lat, place.lon, neighbour.lat, neighbour.lon)
        hours = max(_LEAST_HOURS, abs(place.time_us - neighbour.time_us) / 3.6e9)
        speed = way / hours if way >= LEAST_KM else 0.0
        if not speed <= kmh:  # also when there is none yet
            km, kmh = way, speed
    places.insert(at, place)
    del places[: max(0, len(places) - MAX_PLACES)]
    return km, kmh
