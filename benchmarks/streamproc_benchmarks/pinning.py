"""Which core the load runs on and which the consumer, where the platform lets one choose."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

__all__ = ["Cores", "choose_cores", "pin", "pinned"]


class Cores(msgspec.Struct, frozen=True):
    """A core for servers and load generator, one for the consumer; None where it cannot be set.

    `note` says what was done, for the report.
    """

    load: int | None
    consumer: int | None
    note: str


def choose_cores() -> Cores:
    """Return the first usable core for the load and the last for the consumer."""
    if sys.platform != "linux":
        return Cores(None, None, f"not pinned: {sys.platform} offers no way to choose cores")
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores(None, None, "not pinned: one core is usable, so servers and consumer share it")
    return Cores(
        usable[0],
        usable[-1],
        f"pinned: servers and load generator to core {usable[0]}, consumer to core {usable[-1]}",
    )


def pin(core: int | None) -> None:
    """Keep this process and what it starts on `core`; call it before any thread exists."""
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {core})


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Have what this thread starts while the context lasts kept on `core`."""
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
