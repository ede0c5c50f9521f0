from __future__ import annotations

import asyncio
import time

import pytest

from tests import virtual_time


def test_sleeping_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return virtual_time.now()

    began = time.monotonic()
    assert virtual_time.run(main()) == pytest.approx(1_000 + 3600)
    assert time.monotonic() - began < 5


def test_timers_go_off_in_order() -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def note(delay: float, name: str) -> None:
            await asyncio.sleep(delay)
            order.append(name)

        await asyncio.gather(note(3, "c"), note(1, "a"), note(2, "b"))
        return order

    assert virtual_time.run(main()) == ["a", "b", "c"]


def test_waiting_for_ever_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(virtual_time.NothingToDo):
        virtual_time.run(main())
