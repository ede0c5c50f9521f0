"""Finding a store by name, and its options."""

from __future__ import annotations

import pytest

from streamproc.entries import find_entry
from streamproc.errors import ConfigError
from streamproc.leases.stores import ENTRY_POINT_GROUP, open_store


@pytest.mark.parametrize("name", ["memory", "redis", "sqlite"])
def test_the_stores_that_ship_are_found(name: str) -> None:
    assert callable(find_entry(ENTRY_POINT_GROUP, name))


async def test_an_unknown_store_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'sqllite'.*'sqlite'\?.*memory"):
        await open_store("sqllite", "g", {})


async def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"leases\.options\.timout.*timeout\?"):
        await open_store("redis", "g", {"timout": 3})


async def test_an_option_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"redis store.*timeout"):
        await open_store("redis", "g", {"timeout": "soon"})


async def test_a_store_without_options_says_so() -> None:
    with pytest.raises(ConfigError, match="it has none"):
        await open_store("memory", "g", {"path": "x"})


async def test_workers_of_one_process_share_the_memory_store() -> None:
    assert await open_store("memory", "shared", {}) is await open_store("memory", "shared", {})
