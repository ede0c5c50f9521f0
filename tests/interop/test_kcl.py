"""One stream, one lease table, two consumers: streamproc and the real KCL 3."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from streamproc.leases.stores import open_store
from streamproc.testing import LocalKinesis
from tests import dynamodb_servers
from tests.interop import kcl
from tests.interop.kcl import KclWorker
from tests.worker.group import Group

_REASON = kcl.why_not() or dynamodb_servers.why_not("ministack")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(_REASON is not None, reason=str(_REASON)),
    pytest.mark.timeout(300),
]

ACCOUNTS = [f"account-{n}" for n in range(24)]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kcl.compiled(tmp_path_factory.mktemp("kcl"))


@pytest.fixture(scope="module")
def dynamodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dynamodb_servers.running("ministack", tmp_path_factory.mktemp("ministack")) as endpoint:
        yield endpoint


class Fleet:
    """A consumer group of both kinds of worker."""

    def __init__(self, group: Group, dynamodb: str, classes: Path) -> None:
        self.group = group
        self.dynamodb = dynamodb
        self._classes = classes
        self._table = boto3.client("dynamodb", endpoint_url=dynamodb, region_name="us-east-1")
        self._published = 0
        group.defaults |= {
            "leases.store": "dynamodb",
            "leases.options.endpoint_url": dynamodb,
            "leases.duration": 2.0,
            "leases.scan_interval": 0.5,
        }

    def kcl(self, name: str) -> KclWorker:
        return KclWorker(
            self._classes,
            application=self.group.name,
            stream=self.group.stream,
            kinesis=self.group.kinesis.endpoint_url,
            dynamodb=self.dynamodb,
            worker_id=name,
        )

    def publish(self, numbers: int = 5) -> None:
        """Put so many entries for each account."""
        first, self._published = self._published, self._published + numbers
        self.group.publish_entries(range(first, first + numbers), ACCOUNTS)

    @property
    def published(self) -> set[tuple[str, int]]:
        return {(account, n) for account in ACCOUNTS for n in range(self._published)}

    async def booked(self) -> set[tuple[str, int]]:
        """Return the entries that streamproc has processed."""
        return {(account, n) for account in ACCOUNTS for n in await self.group.numbers(account)}

    def rows(self) -> dict[str, dict[str, Any]]:
        items = self._table.scan(TableName=self.group.name, ConsistentRead=True)["Items"]
        return {item["leaseKey"]["S"]: item for item in items}

    def owners(self) -> dict[str, str | None]:
        """Return who owns the leases of open shards, without those being handed over."""
        return {
            key: row.get("leaseOwner", {}).get("S")
            for key, row in self.rows().items()
            if row["checkpoint"]["S"] != "SHARD_END" and "checkpointOwner" not in row
        }


@pytest.fixture
async def fleet(
    local_kinesis: LocalKinesis, redis_url: str, dynamodb: str, classes: Path
) -> AsyncIterator[Fleet]:
    async with Group(local_kinesis, redis_url, shards=4) as group:
        yield Fleet(group, dynamodb, classes)


def entries(worker: KclWorker) -> list[tuple[str, int]]:
    """Return the entries that a KCL worker has processed."""
    data = [json.loads(record)["data"] for record in worker.delivered]
    return [(entry["account"], entry["number"]) for entry in data]


async def test_a_stream_goes_from_kcl_to_streamproc_and_back(fleet: Fleet) -> None:
    group = fleet.group
    fleet.publish()
    async with fleet.kcl("kcl-1") as before:
        await group.until(lambda: len(entries(before)) == len(fleet.published), 120)
        await before.stop()
    assert set(entries(before)) == fleet.published
    by_kcl = fleet.published

    began = time.monotonic()
    worker = group.start(worker__id="streamproc-1")
    fleet.publish()
    await group.until(lambda: set(fleet.owners().values()) == {"streamproc-1"})
    print(f"streamproc has all leases {time.monotonic() - began:.1f} s after its start")

    async def rest_is_booked() -> bool:
        return (await fleet.booked()) >= fleet.published - by_kcl

    await group.until(rest_is_booked)
    assert await fleet.booked() == fleet.published - by_kcl, "read again what KCL had done"
    await group.stop(worker)
    assert set(fleet.owners().values()) == {None}, "a clean stop releases"
    positions = {key: row["checkpoint"]["S"] for key, row in fleet.rows().items()}
    by_both = fleet.published

    fleet.publish()
    began = time.monotonic()
    async with fleet.kcl("kcl-2") as after:
        await group.until(lambda: len(entries(after)) == len(fleet.published - by_both), 120)
        print(f"KCL has read the rest {time.monotonic() - began:.1f} s after its start")
        await after.stop()
    assert set(entries(after)) == fleet.published - by_both
    assert {key: began_at[0] for key, began_at in after.started.items()} == positions
    assert before.failures == after.failures == []


@pytest.mark.parametrize("metrics", [False, True], ids=["unreported", "reported"])
async def test_both_share_a_stream_through_a_split(fleet: Fleet, metrics: bool) -> None:
    """With and without the row by which KCL's leader assigns leases to streamproc."""
    group = fleet.group
    fleet.publish()
    async with fleet.kcl("kcl") as java:
        await group.until(lambda: len(entries(java)) == len(fleet.published), 120)
        began = time.monotonic()
        group.start(worker__id="streamproc", leases__options__kcl3_metrics=metrics)
        await group.until(
            lambda: (
                set(fleet.owners().values()) == {"kcl", "streamproc"} and len(fleet.owners()) == 4
            ),
            90,
        )
        print(f"shared {time.monotonic() - began:.1f} s after the start: {fleet.owners()}")
        fleet.publish()
        for shard in group.shard_ids()[:4:2]:
            group.split(shard)
        fleet.publish()

        async def everything_is_processed() -> bool:
            return await fleet.booked() | set(entries(java)) == fleet.published

        await group.until(everything_is_processed, 90)
        # Every open shard's lease has an owner, none waits in a hand-over, and each is alive.
        open_shards = set(group.shard_ids())
        await group.until(lambda: fleet.owners().keys() == open_shards, 60)
        await group.until(lambda: None not in fleet.owners().values(), 60)
        print(f"after the split: {fleet.owners()}")
        counters = {key: row["leaseCounter"] for key, row in fleet.rows().items()}
        await group.until(
            lambda: all(fleet.rows()[key]["leaseCounter"] != counters[key] for key in open_shards),
            20,
        )
        fleet.publish()
        await group.until(everything_is_processed, 60)
        assert java.failures == []


async def test_kcls_leader_assigns_leases_to_who_reports(fleet: Fleet) -> None:
    """The row alone, without a coordinator that would take leases by itself."""
    group = fleet.group
    fleet.publish()
    async with fleet.kcl("kcl") as java:
        await group.until(lambda: len(entries(java)) == len(fleet.published), 120)
        store = await open_store(
            "dynamodb",
            group.name,
            {"endpoint_url": fleet.dynamodb, "kcl3_metrics": True, "worker_id": "reporting"},
        )
        began = time.monotonic()
        try:
            await group.until(
                lambda: any(
                    row.get("leaseOwner") == {"S": "reporting"} for row in fleet.rows().values()
                ),
                90,
            )
        finally:
            await store.aclose()
        print(f"assigned {time.monotonic() - began:.1f} s after the first report")
