"""Redis and Kinesis before a worker's first lease: that they answer, and fit the group."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from streamproc.config import Config
from streamproc.doctor.at_start import warn_of_eviction
from streamproc.errors import ConfigError, StateStoreError, StreamError
from streamproc.kinesis.api import KinesisApi, StreamSummary
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.pipeline.resume import incarnation_of
from streamproc.redis_client import TimedRedis
from streamproc.state.dedupe import claim_layout
from streamproc.state.partitions import claim_partitions
from streamproc.state.redis_store import RedisStateStore

__all__ = ["Servers", "meet_servers"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_LEAST_PAUSE_S: Final = 0.2
_MOST_PAUSE_S: Final = 5.0
_COMPLAINT_S: Final = 60.0


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """What they told.

    Attributes:
        has_state: whether Redis holds state of the group, in any partition.
        incarnation: id of the Redis that holds it in all partitions; None while one has none.
        shards: the stream's.
        created: when the stream was created, in seconds since the epoch.
    """

    has_state: bool
    incarnation: str | None
    shards: list[ShardInfo]
    created: int


async def meet_servers(
    config: Config,
    client: TimedRedis,
    stores: Sequence[RedisStateStore],
    kinesis: KinesisApi,
    stopping: asyncio.Event,
) -> Servers | None:
    """Wait until Redis and Kinesis have answered; None when told to stop before.

    Args:
        config: the whole tree.
        client: Redis.
        stores: the group's state in it, of each partition.
        kinesis: the stream.
        stopping: set to give up.

    Raises:
        ConfigError: the group was made with another number of partitions or dedupe layout, or ids
            are forgotten too early.
        StreamError: Kinesis refuses for good.
    """

    async def meet_redis() -> list[str | None]:
        # Which Redis this is comes first: nothing has been written to it by then.
        ids = [await store.incarnation() for store in stores]
        await warn_of_eviction(client)
        await claim_partitions(client, config.group, config.redis.partitions)
        await claim_layout(client, config.group, config.dedupe.layout)
        return ids

    async def meet_kinesis() -> tuple[StreamSummary, list[ShardInfo]]:
        return await kinesis.describe_stream(), await kinesis.list_shards()

    ids = await _answer_of(meet_redis, stopping)
    told = None if ids is None else await _answer_of(meet_kinesis, stopping)
    if ids is None or told is None:
        return None
    stream, shards = told
    _look_at_ttl(config, stream.retention_hours)
    known = [each for each in ids if each is not None]
    return Servers(
        has_state=bool(known),
        incarnation=incarnation_of(known) if len(known) == len(ids) else None,
        shards=shards,
        created=int(stream.creation_timestamp),
    )


async def _answer_of(ask: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T | None:
    """Ask until there is an answer; None when told to stop before."""
    waiting = asyncio.ensure_future(_until_available(ask))
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, stopped):
        task.cancel()
    await asyncio.wait((waiting, stopped))
    return None if waiting.cancelled() else waiting.result()


async def _until_available(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer; say what is being waited for, once and then every minute."""
    delay = _LEAST_PAUSE_S
    complained = 0.0
    while True:
        try:
            return await ask()
        except (StateStoreError, KinesisError) as error:
            if isinstance(error, StreamError):
                raise
            if time.monotonic() - complained > _COMPLAINT_S or not complained:
                complained = time.monotonic()
                log.warning("waiting: %s", error)
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(_MOST_PAUSE_S, delay * 2)


def _look_at_ttl(config: Config, retention_hours: int) -> None:
    """Say when a record may still be read after its event's id has been forgotten.

    Raises:
        ConfigError: it is so, and the setting is to refuse.
    """
    dedupe, needed = config.dedupe, retention_hours * 3_600
    if dedupe.ttl >= needed:
        return
    text = (
        f"dedupe.ttl = {dedupe.ttl:g} s is shorter than the {retention_hours} h for "
        f"which {config.stream.name} keeps records: one that is read again later than that, after "
        "a rewind or from a producer that repeats it, takes effect twice; set dedupe.ttl to "
        f"{needed} or more"
    )
    if dedupe.on_short_ttl == "refuse":
        raise ConfigError(f"{text}, or dedupe.on_short_ttl to warn")
    log.warning("%s", text)
