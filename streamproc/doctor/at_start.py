"""What a worker looks at when it starts, and says in its log."""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

from streamproc.config import Config
from streamproc.doctor.redis_checks import judge_eviction
from streamproc.doctor.redis_facts import read_facts
from streamproc.errors import StateLost
from streamproc.redis_client import TimedRedis

__all__ = ["begin_without_leases", "warn_of_eviction"]

log = logging.getLogger(__name__)


def begin_without_leases(config: Config, has_state: bool) -> None:
    """Say what is about to happen; a group that has lost everything looks like a new one.

    Args:
        config: the whole tree.
        has_state: whether Redis knows the group.

    Raises:
        StateLost: neither is there, and the group is said to have begun before.
    """
    begin = config.stream.initial_position
    if has_state:
        log.warning(
            "group %s has state in Redis and no leases: they are new or gone; shards that have a "
            "position go on from there, others begin at %s",
            config.group,
            begin,
        )
        return
    where = f"neither Redis nor the lease store ({config.leases.store}) knows it"
    if config.worker.on_new_group == "halt":
        raise StateLost(
            f"group {config.group}: {where}, and worker.on_new_group is 'halt': state and leases "
            "are lost, or redis.url, leases.store or group name the wrong ones. Restore them; or "
            f"set worker.on_new_group to 'begin' to read the stream from {begin}"
        )
    log.warning(
        "group %s begins at %s: %s. If it has run before, its data is gone: stop the workers and "
        "restore it. Set worker.on_new_group = 'halt' once the group has begun",
        config.group,
        begin,
        where,
    )


async def warn_of_eviction(client: TimedRedis) -> None:
    """Warn of a Redis that throws keys away when memory is short."""
    try:
        servers = await read_facts(client)
    except (RedisError, OSError) as error:
        log.warning("Redis does not tell its maxmemory-policy (%s)", type(error).__name__)
        return
    for finding in map(judge_eviction, servers):
        if finding.level != "ok":
            log.warning("Redis at %s", finding.message)
