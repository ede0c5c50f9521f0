"""The stores the contract is run against, each opened as a worker would."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from streamproc.leases import stores
from streamproc.leases.lease import LeaseStore
from tests import dynamodb_servers

Backend = tuple[str, Mapping[str, Any]]
Open = Callable[[str], Awaitable[LeaseStore]]


DYNAMODB_SERVERS = ("moto", "dynalite", "ministack")


def _server(name: str) -> Callable[..., Iterator[str]]:
    @pytest.fixture(scope="session", name=name)
    def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        reason = dynamodb_servers.why_not(name)
        if reason is not None:
            pytest.skip(reason)
        with dynamodb_servers.running(name, tmp_path_factory.mktemp(name)) as endpoint:
            yield endpoint

    return start


moto = _server("moto")
dynalite = _server("dynalite")
ministack = _server("ministack")


def dynamodb_options(endpoint: str) -> Mapping[str, Any]:
    """Give the options of the dynamodb store on a server of the tests."""
    return {"endpoint_url": endpoint, "region": "us-east-1", "timeout": 30.0}


@pytest.fixture(
    params=["memory", "sqlite", "redis", *(f"dynamodb-{name}" for name in DYNAMODB_SERVERS)]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Name a store and give the options that open one which is empty."""
    name: str = request.param
    if name == "sqlite":
        return name, {"path": str(tmp_path / "leases.db")}
    if name == "redis":
        return name, {"url": request.getfixturevalue("redis_url")}
    if name.startswith("dynamodb-"):
        server = name.removeprefix("dynamodb-")
        return "dynamodb", dynamodb_options(request.getfixturevalue(server))
    return name, {}


def group_name(test: str, group: str) -> str:
    """Name a group that no other test has; DynamoDB's tables take these characters alone."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{test}-{group}")


@pytest.fixture
async def open_group(backend: Backend, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open the store of a group, as often as a test likes; all are closed after it."""
    name, options = backend
    opened: list[LeaseStore] = []

    async def open_one(group: str) -> LeaseStore:
        # The memory store outlives a test, as a process does; so each test has groups of its own.
        store = await stores.open_store(name, group_name(request.node.name, group), options)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_group: Open) -> LeaseStore:
    """Open an empty store."""
    return await open_group("group")
