"""Everything a command needs of a consumer group, opened for its time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import redis.asyncio

from streamproc.config import Config, require
from streamproc.errors import ConfigError
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.client import open_kinesis
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.leases.stores import open_store, roster_options, store_options
from streamproc.pipeline.resume import incarnation_of
from streamproc.position import initial_position
from streamproc.redis_client import connect_redis
from streamproc.state.keys import Keys, group_key
from streamproc.state.places import Place, Places

__all__ = ["Group", "open_group", "same_partitions"]


@dataclass(frozen=True)
class Group:
    """A group's stream, leases and positions.

    Attributes:
        config: the settings.
        kinesis: the stream.
        leases: the lease store.
        roster: the workers' heartbeats, if they renew all their leases at once.
        places: positions and marks, of one partition after the other.
        operator: the name under which a command takes a lease for a moment.
    """

    config: Config
    kinesis: KinesisApi
    leases: LeaseStore
    roster: LeaseStore | None
    places: tuple[Places, ...]
    operator: str

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.config.stream.name

    async def rows(self) -> dict[str, Lease]:
        """Return every lease by its key.

        Raises:
            LeaseStoreError: the store failed.
        """
        return {row.key: row for row in await self.leases.list()}

    async def positions(self) -> dict[str, tuple[Place | None, ...]]:
        """Return each shard's places, of one partition after the other.

        Raises:
            StateStoreError: Redis failed.
        """
        read = [await places.read(self.stream) for places in self.places]
        shards = {shard for places in read for shard in places}
        return {shard: tuple(places.get(shard) for places in read) for shard in shards}

    async def incarnation(self) -> str | None:
        """Return the id of the Redis, as leases note it; None before its first shard.

        Raises:
            StateStoreError: Redis failed.
        """
        ids = [await places.incarnation() for places in self.places]
        known = [each for each in ids if each is not None]
        return incarnation_of(known) if len(known) == len(ids) else None


@contextlib.asynccontextmanager
async def open_group(config: Config) -> AsyncIterator[Group]:
    """Open a group's stream, lease store and Redis, and close them in the end.

    Raises:
        ConfigError: a setting is wrong, or the group has another number of partitions.
        LeaseStoreError: the lease store cannot be reached.
    """
    require(config)
    if config.leases.store == "memory":
        raise ConfigError(
            "leases.store = 'memory' is known to its own process only; ask that worker's /status"
        )
    begin = initial_position(config.stream.initial_position)
    async with contextlib.AsyncExitStack() as stack:
        client = connect_redis(config.redis.url, config.redis.timeout, cluster=config.redis.cluster)
        stack.push_async_callback(client.aclose)
        await same_partitions(client, config)
        kinesis = await stack.enter_async_context(open_kinesis(config.stream, config.read))
        options = store_options(config, None, begin)
        leases = await open_store(config.leases.store, config.group, options)
        stack.push_async_callback(leases.aclose)
        roster = None
        if config.leases.renewal == "worker":
            roster = await open_store(config.leases.store, *roster_options(config))
            stack.push_async_callback(roster.aclose)
        places = [
            Places(client, Keys(config.group, partition))
            for partition in range(config.redis.partitions)
        ]
        yield Group(config, kinesis, leases, roster, tuple(places), _operator())


async def same_partitions(client: redis.asyncio.Redis, config: Config) -> None:
    """Make sure that the group has the configured number of partitions, without noting it.

    Raises:
        ConfigError: it has another number.
        StateStoreError: Redis does not answer.
    """
    noted = await Places(client, Keys(config.group)).answer(
        client.get(group_key(config.group, "partitions"))
    )
    if noted is not None and int(noted) != config.redis.partitions:
        raise ConfigError(
            f"redis.partitions = {config.redis.partitions}, but group {config.group} was made with "
            f"{int(noted)}; set it to that"
        )


def _operator() -> str:
    return f"operator-{socket.gethostname()}-{os.getpid()}"
