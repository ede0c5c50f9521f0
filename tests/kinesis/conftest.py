from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop
from aiobotocore.session import AioSession

from streamproc.kinesis import client as client_module
from tests.virtual_time import VirtualTimeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@functools.cache
def data_loader() -> Any:
    """Return one loader of botocore's API models, which take longer to read than a test to run."""
    return AioSession().get_component("data_loader")


def new_session() -> AioSession:
    session = AioSession()
    session.register_component("data_loader", data_loader())
    return session


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give credentials that any local endpoint takes, and keep this host's own out of the tests."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setattr(client_module, "AioSession", new_session)


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
