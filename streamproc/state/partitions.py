"""How many partitions a group was made with: written once, because keys would be elsewhere."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from streamproc.errors import ConfigError, StateStoreError
from streamproc.redis_client import redis_address
from streamproc.state.keys import group_key

__all__ = ["claim_partitions"]


async def claim_partitions(client: redis.asyncio.Redis, group: str, partitions: int) -> None:
    """Note the group's number of partitions, or make sure that it is the one noted.

    Raises:
        ConfigError: the group was made with another number.
        StateStoreError: Redis does not answer.
    """
    key = group_key(group, "partitions")
    try:
        await client.set(key, partitions, nx=True)
        noted: Any = await client.get(key)
    except (RedisError, OSError) as error:
        raise StateStoreError(
            f"Redis at {redis_address(client)}: {str(error) or type(error).__name__}; "
            "check redis.url and that the server accepts writes"
        ) from error
    if int(noted) != partitions:
        raise ConfigError(
            f"redis.partitions = {partitions}, but group {group} was made with {int(noted)} "
            f"(see {key} in Redis): its states and positions lie there. Set it back; to change it, "
            "start a new group, which reads the stream again"
        )
