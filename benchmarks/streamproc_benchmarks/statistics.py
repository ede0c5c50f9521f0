"""Percentiles of raw samples, and medians with their spread over rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TypeVar

import msgspec

__all__ = ["Spread", "percentile", "ratios", "spread", "thinned"]

T = TypeVar("T")


class Spread(msgspec.Struct, frozen=True):
    """The median of rounds with the least and the greatest of them; nothing is left out."""

    median: float
    least: float
    greatest: float
    rounds: int


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the least sample that at least `share` of all samples do not exceed (nearest rank).

    It is always a sample that was measured, never one between two.

    Raises:
        ValueError: there are no samples, or `share` is not in (0, 1].
    """
    if not samples:
        raise ValueError("a percentile of nothing")
    if not 0 < share <= 1:
        raise ValueError(f"share {share}: must be above 0 and at most 1")
    # The tolerance keeps 0.07 * 100 = 7.000000000000001 at rank 7.
    rank = math.ceil(share * len(samples) - 1e-9)
    return sorted(samples)[rank - 1]


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("the spread of nothing")
    return Spread(median(values), min(values), max(values), len(values))


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return value / base round by round, so that what disturbs a whole round cancels out.

    Raises:
        ValueError: the rounds do not match, or a base is zero.
    """
    if len(values) != len(base):
        raise ValueError(f"{len(values)} rounds against {len(base)}")
    if not all(base):
        raise ValueError("a base of zero")
    return [value / other for value, other in zip(values, base, strict=True)]


def thinned(series: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of a series, evenly spaced, the first and the last among them."""
    if len(series) <= most:
        return list(series)
    return [series[round(at * (len(series) - 1) / (most - 1))] for at in range(most)]
