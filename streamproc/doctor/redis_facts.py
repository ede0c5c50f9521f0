"""What a Redis server says of itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.exceptions import RedisError

from streamproc.redis_client import TimedRedis, redis_address
from streamproc.redis_cluster import ClusterRedis

__all__ = ["RedisFacts", "read_facts", "try_script"]

# Everything that scripts of the engine do, on a key that is gone at the end.
_TRIAL = """
local hash, set, stream, sorted = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
redis.call('HSET', hash, 'f', '1')
redis.call('HGET', hash, 'f')
redis.call('PEXPIRE', hash, 1000)
redis.call('SADD', set, 'm')
redis.call('SMISMEMBER', set, 'm')
redis.call('XADD', stream, '*', 'f', '1')
redis.call('ZADD', sorted, 1, 'm')
redis.call('TIME')
return redis.call('DEL', hash, set, stream, sorted)
"""


class RedisFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One server's facts.

    Attributes:
        address: host and port, or path.
        version: such as ``7.2.4``; of Valkey, the Redis version that it is compatible with.
        eviction: `maxmemory-policy`.
        max_memory: bytes; 0 is no limit.
        used_memory: bytes.
        appends: whether there is an append-only file.
        dumps: whether it dumps by itself; None where it does not tell its settings.
        last_dump_failed: whether the last dump could not be written.
        is_primary: whether it takes writes.
        replicas: connected ones.
        is_cluster: whether it is a node of a cluster.
        clock_lead: seconds that its clock is ahead of this host's.
    """

    address: str
    version: str
    eviction: str
    max_memory: int
    used_memory: int
    appends: bool
    dumps: bool | None
    last_dump_failed: bool
    is_primary: bool
    replicas: int
    is_cluster: bool
    clock_lead: float


async def read_facts(client: TimedRedis) -> list[RedisFacts]:
    """Return the facts of the server, or of each primary of the cluster.

    Raises:
        RedisError, OSError: a server does not answer.
    """
    nodes = await client.primaries() if isinstance(client, ClusterRedis) else [client]
    return [await _facts_of(node) for node in nodes]


async def try_script(client: TimedRedis, prefix: str) -> None:
    """Run a script that does what the engine's do, below a key prefix, and leave nothing behind.

    Raises:
        RedisError: a command of it is not permitted.
    """
    keys = [f"{prefix}doctor:{part}" for part in ("hash", "set", "stream", "sorted")]
    await client.register_script(_TRIAL)(keys)


async def _facts_of(node: TimedRedis) -> RedisFacts:
    info: Mapping[str, Any] = await node.info()
    asked = time.time()
    seconds, micros = await node.time()
    host_time = (asked + time.time()) / 2
    return RedisFacts(
        address=redis_address(node),
        version=str(info.get("redis_version", "0")),
        eviction=str(info.get("maxmemory_policy", "unknown")),
        max_memory=int(info.get("maxmemory", 0)),
        used_memory=int(info.get("used_memory", 0)),
        appends=bool(info.get("aof_enabled", 0)),
        dumps=await _dumps(node),
        last_dump_failed=info.get("rdb_last_bgsave_status") == "err",
        is_primary=info.get("role") == "master",
        replicas=int(info.get("connected_slaves", 0)),
        is_cluster=bool(info.get("cluster_enabled", 0)),
        clock_lead=seconds + micros / 1e6 - host_time,
    )


async def _dumps(node: TimedRedis) -> bool | None:
    try:
        settings: Mapping[Any, Any] = await node.config_get("save")
    except RedisError:
        return None  # managed services keep CONFIG to themselves
    return any(settings.values())
