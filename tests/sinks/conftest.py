from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from streamproc.redis_client import connect_redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect_redis(redis_url, 5.0)
    yield client
    await client.aclose()
