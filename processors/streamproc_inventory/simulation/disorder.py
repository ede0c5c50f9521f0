"""The way from a shop to its consumers: some events come twice, some late, some very late."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from random import Random

import msgspec

from streamproc_inventory.simulation.shop import Happening

__all__ = ["Delivery", "Disorder", "deliveries"]


class Disorder(msgspec.Struct, frozen=True, kw_only=True):
    """How events arrive.

    Attributes:
        duplicates: share of events that come a second time.
        reordered: share of events that come late, by up to `reach` others.
        reach: how many others may overtake a late one.
        gaps: share of numbered events that come very late, by up to ten times `reach`: those after
            them in their sequence have to wait.
    """

    duplicates: float = 0.0
    reordered: float = 0.0
    reach: int = 50
    gaps: float = 0.0


class Delivery(msgspec.Struct, frozen=True):
    """An event as it arrives; `is_again` for its second time."""

    happening: Happening
    is_again: bool


def deliveries(
    happenings: Iterable[Happening], disorder: Disorder, seed: int
) -> Iterator[Delivery]:
    """Yield every event at least once, in the order in which they arrive."""
    rng = Random(f"streamproc disorder {seed}")
    late: list[tuple[int, int, Delivery]] = []
    order = 0
    for index, happening in enumerate(happenings):
        while late and late[0][0] <= index:
            yield heapq.heappop(late)[2]
        delay = 0
        if happening.is_numbered and rng.random() < disorder.gaps:
            delay = rng.randint(disorder.reach, 10 * disorder.reach)
        elif rng.random() < disorder.reordered:
            delay = rng.randint(1, disorder.reach)
        if delay:
            order += 1
            heapq.heappush(late, (index + delay, order, Delivery(happening, False)))
        else:
            yield Delivery(happening, False)
        if rng.random() < disorder.duplicates:
            again = index + delay + rng.randint(1, 5 * disorder.reach)
            order += 1
            heapq.heappush(late, (again, order, Delivery(happening, True)))
    yield from (heapq.heappop(late)[2] for _ in range(len(late)))
