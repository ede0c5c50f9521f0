"""The stores the contract is run against, each opened as a worker would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from streamproc.leases import stores
from streamproc.leases.lease import LeaseStore

Backend = tuple[str, Mapping[str, Any]]
Open = Callable[[str], Awaitable[LeaseStore]]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Name a store and give the options that open one which is empty."""
    name: str = request.param
    if name == "sqlite":
        return name, {"path": str(tmp_path / "leases.db")}
    if name == "redis":
        return name, {"url": request.getfixturevalue("redis_url")}
    return name, {}


@pytest.fixture
async def open_group(backend: Backend, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open the store of a group, as often as a test likes; all are closed after it."""
    name, options = backend
    opened: list[LeaseStore] = []

    async def open_one(group: str) -> LeaseStore:
        # The memory store outlives a test, as a process does; so each test has groups of its own.
        store = await stores.open_store(name, f"{request.node.name}-{group}", options)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_group: Open) -> LeaseStore:
    """Open an empty store."""
    return await open_group("group")
