from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamproc.testing import LocalKinesis
from tests.worker.group import Group


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    """A consumer group on a fresh stream with two shards; its workers end with the test."""
    async with Group(local_kinesis, redis_url, shards=2) as made:
        yield made
