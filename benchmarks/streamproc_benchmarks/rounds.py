"""The order of runs: consumers take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["Say", "interleaved"]

T = TypeVar("T")

Say = Callable[[str], None]
"""Tells whoever waits what is being done."""


def interleaved(consumers: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield (round, consumer) as A B C A B C, so that slow minutes of the host fall on all."""
    for number in range(1, rounds + 1):
        for consumer in consumers:
            yield number, consumer
