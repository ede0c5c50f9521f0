"""Finds a lease store by the name it was registered under."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from streamproc.entries import find_entry
from streamproc.leases.lease import LeaseStore

__all__ = ["ENTRY_POINT_GROUP", "open_store"]

ENTRY_POINT_GROUP = "streamproc.checkpoints"

OpenStore = Callable[[str, Mapping[str, Any]], Awaitable[LeaseStore]]


async def open_store(name: str, group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Open the store that is registered as `name` for a consumer group.

    Raises:
        ConfigError: no such store is installed, it cannot be imported, or an option is wrong.
        LeaseStoreError: the store cannot be reached.
    """
    return await cast(OpenStore, find_entry(ENTRY_POINT_GROUP, name))(group, options)
