from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streamproc.redis_client import connect_redis
from streamproc.state.dedupe import Layout

from .stores import Kit, MemoryKit, RedisKit


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest) -> str | None:
    """Give the URL of a Redis server, or None for the store in memory, which needs none."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture(params=["sets", "keys"])
async def kit(server: str | None, request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """Give each store with each layout of the dedupe marks."""
    async with _opened(server, request.param) as kit:
        yield kit


@pytest.fixture
async def sets_kit(server: str | None) -> AsyncIterator[Kit]:
    async with _opened(server, "sets") as kit:
        yield kit


@pytest.fixture
async def keys_kit(server: str | None) -> AsyncIterator[Kit]:
    async with _opened(server, "keys") as kit:
        yield kit


@asynccontextmanager
async def _opened(server: str | None, layout: Layout) -> AsyncIterator[Kit]:
    if server is None:
        yield MemoryKit(layout)
        return
    kit = RedisKit(connect_redis(server, timeout=5.0), layout=layout)
    yield kit
    await kit.store.aclose()
