"""Finds a lease store by the name it was registered under."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from streamproc.config import Config
from streamproc.entries import find_entry
from streamproc.leases.lease import LeaseStore
from streamproc.position import Position

__all__ = ["ENTRY_POINT_GROUP", "open_store", "roster_options", "store_options"]

ENTRY_POINT_GROUP = "streamproc.checkpoints"

_ROSTER = ".workers"

OpenStore = Callable[[str, Mapping[str, Any]], Awaitable[LeaseStore]]


async def open_store(name: str, group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Open the store that is registered as `name` for a consumer group.

    Raises:
        ConfigError: no such store is installed, it cannot be imported, or an option is wrong.
        LeaseStoreError: the store cannot be reached.
    """
    return await cast(OpenStore, find_entry(ENTRY_POINT_GROUP, name))(group, options)


def store_options(
    config: Config, worker_id: str | None = None, begin: Position | None = None
) -> dict[str, Any]:
    """Return `leases.options` with what the rest of the configuration says already.

    Args:
        config: the whole tree.
        worker_id: who opens the store; None for a command that holds no lease.
        begin: the position that `stream.initial_position` names.
    """
    known: dict[str, dict[str, Any]] = {
        "redis": {"url": config.redis.url, "cluster": config.redis.cluster},
        "dynamodb": {
            "region": config.stream.region,
            "worker_id": worker_id,
            "initial_position": None if begin is None else begin.encode(),
        },
    }
    return known.get(config.leases.store, {}) | config.leases.options


def roster_options(config: Config) -> tuple[str, dict[str, Any]]:
    """Return the group and options by which a group's roster is opened with the same store.

    The roster is a small table of its own, so that the lease table holds leases and nothing else.
    """
    options = store_options(config)
    if config.leases.store == "dynamodb":
        table = options.pop("table", None) or config.group
        options |= {"table": f"{table}{_ROSTER}", "consistent_reads": True, "kcl3_metrics": False}
    return f"{config.group}{_ROSTER}", options
