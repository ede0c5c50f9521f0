"""What a group was made with, written once: its data would be looked for elsewhere otherwise."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from streamproc.errors import ConfigError, StateStoreError
from streamproc.redis_client import redis_address
from streamproc.state.keys import group_key

__all__ = ["claim_partitions", "claim_setting"]


async def claim_partitions(client: redis.asyncio.Redis, group: str, partitions: int) -> None:
    """Note the group's number of partitions, or make sure that it is the one noted.

    Raises:
        ConfigError: the group was made with another number.
        StateStoreError: Redis does not answer.
    """
    await claim_setting(
        client,
        group,
        "partitions",
        str(partitions),
        setting="redis.partitions",
        remedy="its states and positions lie there. Set it back; to change it, start a new group, "
        "which reads the stream again",
    )


async def claim_setting(
    client: redis.asyncio.Redis, group: str, name: str, value: str, *, setting: str, remedy: str
) -> None:
    """Note a value for the whole group, or make sure that it is the one noted.

    Args:
        client: the group's Redis.
        group: consumer group.
        name: the rest of the key that it is noted at.
        value: what this worker is set to.
        setting: its name in the configuration.
        remedy: what the error says after "the group was made with ...:".

    Raises:
        ConfigError: another value is noted.
        StateStoreError: Redis does not answer.
    """
    key = group_key(group, name)
    try:
        await client.set(key, value, nx=True)
        noted: Any = await client.get(key)
    except (RedisError, OSError) as error:
        raise StateStoreError(
            f"Redis at {redis_address(client)}: {str(error) or type(error).__name__}; "
            "check redis.url and that the server accepts writes"
        ) from error
    if noted.decode() != value:
        raise ConfigError(
            f"{setting} = {value}, but group {group} was made with {noted.decode()} "
            f"(see {key} in Redis): {remedy}"
        )
