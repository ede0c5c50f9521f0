"""Finds a lease store by the name it was registered under."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from streamproc.errors import ConfigError
from streamproc.leases.lease import LeaseStore

__all__ = ["ENTRY_POINT_GROUP", "open_store", "store_names"]

ENTRY_POINT_GROUP = "streamproc.checkpoints"

OpenStore = Callable[[str, Mapping[str, Any]], Awaitable[LeaseStore]]


def store_names() -> list[str]:
    """Return the names of the installed lease stores."""
    return sorted(_installed())


async def open_store(name: str, group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Open the store that is registered as `name` for a consumer group.

    Raises:
        ConfigError: no such store is installed, it cannot be imported, or an option is wrong.
        LeaseStoreError: the store cannot be reached.
    """
    installed = _installed()
    if name not in installed:
        near = difflib.get_close_matches(name, installed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(sorted(installed))
        raise ConfigError(
            f"leases.store: no lease store named {name!r}; {hint}installed are {known}"
        )
    entry = installed[name]
    try:
        opener = cast(OpenStore, entry.load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"leases.store: {name} cannot be loaded from {entry.value}: {error}"
        ) from error
    return await opener(group, options)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
