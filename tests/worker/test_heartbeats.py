"""Workers that renew all their leases with one heartbeat, on the stores themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streamproc.leases.stores import open_store
from tests import dynamodb_servers
from tests.worker.group import Group

ACCOUNTS = [f"account-{n}" for n in range(8)]


@pytest.mark.parametrize("store", ["redis", "sqlite", "dynamodb"])
async def test_a_group_shares_its_shards_and_survives_a_crash(
    group: Group, store: str, tmp_path: Path
) -> None:
    if store == "dynamodb":
        with dynamodb_servers.running("moto", tmp_path) as endpoint:
            await _share_and_crash(group, store, {"endpoint_url": endpoint, "timeout": 30.0})
    elif store == "sqlite":
        await _share_and_crash(group, store, {"path": str(tmp_path / "leases.db")})
    else:
        await _share_and_crash(group, store, {"url": group.redis_url})


async def _share_and_crash(group: Group, store: str, options: Mapping[str, Any]) -> None:
    settings = {"leases__renewal": "worker", "leases__store": store, "leases__options": options}
    roster_options = {**options}
    if store == "dynamodb":
        roster_options["table"] = f"{group.name}.workers"
    first = group.start(**settings)
    await group.until(lambda: group.shards_adopted(2))
    second = group.start(**settings)
    group.publish_entries(range(10), ACCOUNTS)
    await group.until(lambda: [len(w.status().shards) for w in (first, second)] == [1, 1])

    roster = await open_store(store, f"{group.name}.workers", roster_options)
    members = {row.key for row in await roster.list()}
    assert members == {first.worker_id, second.worker_id}

    await group.kill(first)
    await group.until(lambda: len(second.status().shards) == 2)
    group.publish_entries(range(10, 20), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    assert {row.key for row in await roster.list()} == {second.worker_id}
    await group.stop(second)
    assert await roster.list() == []
    await roster.aclose()
