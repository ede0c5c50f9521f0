from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.virtual_time import VirtualTimeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


# Their transports differ, so what handles transports is tried on both loops.
_ON_BOTH_LOOPS = {"test_transport", "test_client"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Choose the event loops that a test runs on."""
    if item.path.stem == "test_fanout_reader":
        return {"virtual": VirtualTimeLoop}
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in _ON_BOTH_LOOPS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops
