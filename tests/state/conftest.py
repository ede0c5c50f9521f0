from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamproc.redis_client import connect_redis

from .stores import Kit, MemoryKit, RedisKit


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest) -> str | None:
    """Give the URL of a Redis server, or None for the store in memory, which needs none."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def kit(server: str | None) -> AsyncIterator[Kit]:
    if server is None:
        yield MemoryKit()
        return
    redis_kit = RedisKit(connect_redis(server, timeout=5.0))
    yield redis_kit
    await redis_kit.store.aclose()
