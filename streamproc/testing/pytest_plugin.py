"""Pytest fixtures: a Kinesis endpoint and a Redis server for each test that asks for one.

`local_kinesis` is fresh for every test; `embedded_redis` runs once a session; `redis_url` is its
URL with the database flushed. `embedded_cluster` is a Redis Cluster of three nodes, once a session
and flushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

async_fixture: Any
try:
    from pytest_asyncio import fixture as async_fixture
except ModuleNotFoundError:
    # The plugin loads wherever streamproc and pytest meet, pytest-asyncio or not. Plain fixtures
    # serve other runners of asynchronous tests, such as anyio's.
    async_fixture = pytest.fixture

if TYPE_CHECKING:
    from streamproc.testing.embedded_cluster import EmbeddedCluster
    from streamproc.testing.embedded_redis import EmbeddedRedis
    from streamproc.testing.localkinesis import LocalKinesis


@async_fixture  # type: ignore[untyped-decorator]
async def local_kinesis() -> AsyncIterator[LocalKinesis]:
    """Serve an empty Kinesis endpoint for one test, in the test's own event loop."""
    from streamproc.testing.localkinesis import LocalKinesis

    async with LocalKinesis() as kinesis:
        yield kinesis


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[EmbeddedRedis]:
    """Run one Redis server for the whole session."""
    from streamproc.testing.embedded_redis import EmbeddedRedis

    server = EmbeddedRedis()
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis) -> str:
    """Give the URL of the session's Redis server, with nothing in it."""
    import redis

    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
    return embedded_redis.url


@pytest.fixture(scope="session")
def _session_cluster() -> Iterator[EmbeddedCluster]:
    from streamproc.testing.embedded_cluster import EmbeddedCluster

    cluster = EmbeddedCluster()
    asyncio.run(cluster.start())
    try:
        yield cluster
    finally:
        asyncio.run(cluster.stop())


@pytest.fixture
def embedded_cluster(_session_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Give the session's Redis Cluster, with nothing in it."""
    asyncio.run(_session_cluster.flush())
    return _session_cluster
