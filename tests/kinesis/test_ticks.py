"""Instants that quiet shards share."""

from __future__ import annotations

import asyncio
import math

import pytest

from streamproc.kinesis.ticks import GRID_S, MOST, Ticks
from tests import virtual_time


def struck(times: list[float]) -> list[tuple[float, list[float]]]:
    """Return the instants at which those who wait for `times` are called, and who at each.

    Times are seconds after an instant.
    """
    strikes: list[tuple[float, list[float]]] = []

    async def main() -> None:
        began = GRID_S * math.ceil(virtual_time.now() / GRID_S)

        def strike(who: list[float]) -> None:
            strikes.append((round(virtual_time.now() - began, 6), who))

        ticks = Ticks(strike)
        for at in times:
            ticks.wait(began + at, at)
        await asyncio.sleep(max(times) + 1)

    virtual_time.run(main())
    return strikes


def test_who_is_due_at_about_the_same_time_is_called_together() -> None:
    assert struck([0.96, 1.04, 1.06, 0.99]) == [(1.0, [0.96, 1.04, 0.99]), (1.1, [1.06])]


def test_all_are_called_once_and_at_most_half_the_grid_from_their_time() -> None:
    times = [1 + n * 0.0007 for n in range(3_000)]
    strikes = struck(times)
    assert sorted(who for _, together in strikes for who in together) == times
    for at, together in strikes:
        assert all(abs(at - who) <= GRID_S / 2 + 1e-6 for who in together)


@pytest.mark.parametrize("count", [MOST, 10 * MOST])
def test_a_crowd_is_parted_and_a_few_are_not(count: int) -> None:
    # As many for each instant, spread evenly over two of them.
    strikes = struck([0.95 + GRID_S * (n + 0.5) / count for n in range(2 * count)])
    assert len(strikes) == (2 if count == MOST else 5)
    assert max(len(together) for _, together in strikes) <= max(MOST, 0.75 * count)


def test_what_has_passed_is_called_now() -> None:
    strikes: list[tuple[float, list[str]]] = []

    async def main() -> None:
        await asyncio.sleep(5.0)
        ticks = Ticks[str](lambda who: strikes.append((virtual_time.now(), who)))
        began = virtual_time.now()
        ticks.wait(began - 4.0, "late")
        await asyncio.sleep(0.001)
        assert strikes == [(began, ["late"])]

    virtual_time.run(main())
