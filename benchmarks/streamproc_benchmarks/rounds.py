"""The order of runs: consumers take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from streamproc_benchmarks.consumer import ConsumerName

__all__ = ["Say", "interleaved"]

Say = Callable[[str], None]
"""Tells whoever waits what is being done."""


def interleaved(
    consumers: Sequence[ConsumerName], rounds: int
) -> Iterator[tuple[int, ConsumerName]]:
    """Yield (round, consumer) as A B C A B C, so that slow minutes of the host fall on all."""
    for number in range(1, rounds + 1):
        for consumer in consumers:
            yield number, consumer
