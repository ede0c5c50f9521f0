from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from streamproc.config import ReadConfig
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.testing import LocalKinesis
from tests.virtual_time import VirtualTimeLoop

from .orders import config

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


# Their transports differ, so what handles transports is tried on both loops.
_ON_BOTH_LOOPS = {"test_transport", "test_client", "test_client_failures"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Choose the event loops that a test runs on."""
    if item.path.stem == "test_fanout_reader":
        return {"virtual": VirtualTimeLoop}
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in _ON_BOTH_LOOPS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture(params=["direct", "aiobotocore"])
async def client(
    request: pytest.FixtureRequest, local_kinesis: LocalKinesis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KinesisClient]:
    """A client whose retries take no time, with either way of calling GetRecords."""

    async def no_wait(seconds: float) -> None:
        assert seconds > 0

    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    read = ReadConfig(client=request.param)
    async with open_kinesis(config(local_kinesis), read) as opened:
        assert (opened._direct is not None) == (request.param == "direct")
        monkeypatch.setattr(opened, "_sleep", no_wait)
        yield opened
