from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import boto3
import pytest
import redis.asyncio
from moto.server import ThreadedMotoServer

from streamproc.redis_client import connect_redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect_redis(redis_url, 5.0)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Give the endpoint of a server that plays SQS, SNS and S3."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_url: str) -> Callable[[str], Any]:
    """Give a client of a service there, to prepare and to look."""
    return lambda service: boto3.client(service, endpoint_url=moto_url, region_name="us-east-1")
