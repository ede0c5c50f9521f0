"""Holds a commit's answer back until enough replicas have the commit."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import msgspec
import redis.asyncio

from streamproc.errors import TooFewReplicas
from streamproc.redis_client import Script, TimedRedis
from streamproc.redis_cluster import ClusterRedis

__all__ = ["ReplicaWait"]

_CONFIRM: Final = (Path(__file__).parent / "confirm.lua").read_text()


class ReplicaWait(msgspec.Struct, frozen=True):
    """How many replicas must have acknowledged a commit before it counts as done.

    WAIT counts what its own connection has written, and commits take any connection of the pool,
    maybe one that broke. So the connection that waits first writes the shard's position again:
    replication is one stream in order, and a replica that has this write has the commit before it.
    It is written only if it is still the commit's; a primary that was replaced in between shows.

    Attributes:
        replicas: how many.
        timeout: seconds to wait for them.
    """

    replicas: int
    timeout: float

    async def confirm(self, client: TimedRedis, key: str, shard: str, expected: str) -> bytes:
        """Wait for the replicas; return what is stored for the shard instead, if that differs.

        Args:
            client: a client of the server or cluster.
            key: the positions hash.
            shard: its field.
            expected: ``<epoch>|<position>`` as the commit wrote it.

        Raises:
            TooFewReplicas: they have not acknowledged it in time.
            RedisError, OSError: the server could not be asked.
        """
        node = await client.client_of(key) if isinstance(client, ClusterRedis) else client
        pool = node.connection_pool
        async with _one_connection(pool, client.call_timeout + self.timeout) as one:
            stored = cast(bytes, await Script(one, _CONFIRM)([key], [shard, expected]))
            if stored != expected.encode():
                return stored
            have = await one.execute_command("WAIT", self.replicas, int(self.timeout * 1000))
        if have < self.replicas:
            raise TooFewReplicas(
                f"{shard}: committed, but {have} of {self.replicas} replicas have acknowledged it "
                f"after {self.timeout:g} s; the shard waits for them. Look at the replicas, or "
                "lower redis.wait_replicas"
            )
        return stored


def _one_connection(pool: redis.asyncio.ConnectionPool, timeout: float) -> TimedRedis:
    client = TimedRedis(connection_pool=pool, single_connection_client=True)
    client.call_timeout = timeout
    return client
