"""The Redis client that everything here uses, be it one server or a cluster behind the URL."""

from __future__ import annotations

from typing import Literal, cast

import redis.asyncio

from streamproc.redis_cluster import ClusterRedis
from streamproc.redis_connections import Script, TimedRedis, redis_pool

__all__ = ["Script", "TimedRedis", "connect_redis", "redis_address"]


def connect_redis(
    url: str,
    timeout: float,
    key: str = "redis.url",
    *,
    cluster: Literal["auto", "on", "off"] = "auto",
) -> TimedRedis:
    """Return a client whose calls end within `timeout` seconds and are never repeated silently.

    A repeated commit is not harmful, but its answer would be about the second try; the pipeline
    repeats with open eyes.

    Args:
        url: redis://, rediss:// or unix://; of a cluster, the address of any node.
        timeout: seconds, connecting included.
        key: the setting that the URL comes from, for messages.
        cluster: whether it is a Redis Cluster; ``auto`` asks it at the first command.

    Raises:
        ConfigError: the URL cannot be used.
    """
    pool = redis_pool(url, key)
    if cluster == "off" or "path" in pool.connection_kwargs:
        client = cast(TimedRedis, TimedRedis.from_pool(pool))
    else:
        routed = cast(ClusterRedis, ClusterRedis.from_pool(pool))
        routed.must_be_cluster = cluster == "on"
        client = routed
    client.call_timeout = timeout
    return client


def redis_address(client: redis.asyncio.Redis) -> str:
    """Return where a client connects to, without credentials, for messages."""
    where = client.connection_pool.connection_kwargs
    return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")
