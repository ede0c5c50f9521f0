"""The DynamoDB store's own ground: tables, foreign rows, servers without ALL_OLD, KCL's metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import boto3
import pytest

from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore, checkpointed, renewed, taken
from streamproc.position import TRIM_HORIZON, Position
from streamproc_checkpoints.dynamodb import open_store

LEASE = Lease(key="shardId-000000000000", owner="me", counter=1, checkpoint=TRIM_HORIZON)
LEASE_KEY = {"leaseKey": {"S": LEASE.key}}

OpenTable = Callable[..., Awaitable[LeaseStore]]


@pytest.fixture
def table(request: pytest.FixtureRequest) -> str:
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def client(moto: str) -> Any:
    return boto3.client("dynamodb", endpoint_url=moto, region_name="us-east-1")


@pytest.fixture
async def open_table(moto: str, table: str) -> AsyncIterator[OpenTable]:
    opened: list[LeaseStore] = []

    async def open_one(**options: Any) -> LeaseStore:
        defaults = {"endpoint_url": moto, "region": "us-east-1", "timeout": 30.0}
        opened.append(await open_store(table, defaults | options))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.aclose()


class TestTable:
    async def test_it_is_named_after_the_group_and_billed_per_request(
        self, client: Any, table: str, open_table: OpenTable
    ) -> None:
        await open_table()
        description = client.describe_table(TableName=table)["Table"]
        assert description["KeySchema"] == [{"AttributeName": "leaseKey", "KeyType": "HASH"}]
        assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert not description.get("GlobalSecondaryIndexes")

    async def test_another_name_can_be_given(
        self, client: Any, table: str, open_table: OpenTable
    ) -> None:
        await open_table(table=f"{table}-other")
        assert client.describe_table(TableName=f"{table}-other")

    async def test_for_kcl_3_it_has_the_index_of_owners(
        self, client: Any, table: str, open_table: OpenTable
    ) -> None:
        await open_table(kcl3_metrics=True, worker_id="me")
        [index] = client.describe_table(TableName=table)["Table"]["GlobalSecondaryIndexes"]
        assert index["IndexName"] == "LeaseOwnerToLeaseKeyIndex"
        assert index["KeySchema"] == [
            {"AttributeName": "leaseOwner", "KeyType": "HASH"},
            {"AttributeName": "leaseKey", "KeyType": "RANGE"},
        ]
        assert index["Projection"]["ProjectionType"] == "KEYS_ONLY"

    async def test_a_missing_one_can_be_an_error(self, open_table: OpenTable) -> None:
        with pytest.raises(LeaseStoreError, match=r"check leases\.options\.table"):
            await open_table(create_table=False)

    async def test_a_table_of_another_kind_is_refused(
        self, client: Any, table: str, open_table: OpenTable
    ) -> None:
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )
        with pytest.raises(ConfigError, match=r"its key is .*'id'.*not 'leaseKey'"):
            await open_table()

    async def test_a_deleted_table_is_a_store_error(
        self, client: Any, table: str, open_table: OpenTable
    ) -> None:
        store = await open_table()
        client.delete_table(TableName=table)
        for answer in (store.list(), store.create(LEASE), store.replace(LEASE, renewed(LEASE))):
            with pytest.raises(LeaseStoreError, match="ResourceNotFoundException"):
                await answer


class TestRows:
    async def test_a_table_is_listed_over_many_pages(
        self, open_table: OpenTable, client: Any, table: str
    ) -> None:
        store = await open_table()
        padding = {"padding": {"S": "x" * 300_000}}  # A page holds 1 MB.
        for n in range(8):
            row = {"leaseKey": {"S": f"{n}"}, "leaseCounter": {"N": "0"}, **padding}
            client.put_item(TableName=table, Item=row | {"checkpoint": {"S": "LATEST"}})
        assert {lease.key for lease in await store.list()} == {f"{n}" for n in range(8)}

    async def test_foreign_attributes_stay(
        self, open_table: OpenTable, client: Any, table: str
    ) -> None:
        store = await open_table()
        await store.create(LEASE)
        client.update_item(
            TableName=table,
            Key=LEASE_KEY,
            UpdateExpression="SET throughputKBps = :t, pendingCheckpoint = :p",
            ExpressionAttributeValues={":t": {"N": "7.5"}, ":p": {"S": "77"}},
        )
        await store.replace(LEASE, renewed(LEASE))
        row = client.get_item(TableName=table, Key=LEASE_KEY)["Item"]
        assert (row["throughputKBps"], row["pendingCheckpoint"]) == ({"N": "7.5"}, {"S": "77"})
        await store.replace(renewed(LEASE), checkpointed(renewed(LEASE), Position("9"), None))
        row = client.get_item(TableName=table, Key=LEASE_KEY)["Item"]
        assert row["throughputKBps"] == {"N": "7.5"}
        assert "pendingCheckpoint" not in row

    async def test_what_is_no_lease_is_passed_over_and_never_written(
        self,
        open_table: OpenTable,
        client: Any,
        table: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """KCL row 12: the other leases still load."""
        store = await open_table()
        await store.create(LEASE)
        foreign: list[Mapping[str, Any]] = [
            {"leaseKey": {"S": "Leader"}, "entityType": {"S": "LEADER"}},
            {"leaseKey": {"S": "broken"}, "leaseCounter": {"N": "1"}, "leaseOwner": {"S": "me"}},
        ]
        for row in foreign:
            client.put_item(TableName=table, Item=row)
        assert await store.list() == [LEASE]
        assert await store.list() == [LEASE]
        assert [
            r.getMessage().partition(" of ")[0] for r in caplog.records if r.levelname == "WARNING"
        ] == ["row broken"]
        broken = Lease(key="broken", owner="you", counter=7, checkpoint=TRIM_HORIZON)
        assert await store.replace(broken, renewed(broken)) is None
        assert not await store.delete(broken)
        assert (
            client.get_item(TableName=table, Key={"leaseKey": {"S": "broken"}})["Item"]
            == foreign[1]
        )

    async def test_two_streams_share_a_table(self, open_table: OpenTable) -> None:
        one = await open_table(stream_identifier="123456789012:orders:1")
        other = await open_table(stream_identifier="123456789012:clicks:2")
        await one.create(LEASE)
        assert await other.list() == []
        assert await other.create(LEASE)
        assert await one.replace(LEASE, renewed(LEASE)) == renewed(LEASE)
        assert await other.list() == [LEASE]


class TestOptions:
    async def test_an_identifier_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="stream_identifier"):
            await open_store("g", {"stream_identifier": "orders"})

    async def test_metrics_need_a_name(self, open_table: OpenTable) -> None:
        with pytest.raises(ConfigError, match="worker_id"):
            await open_table(kcl3_metrics=True)

    async def test_a_profile_that_does_not_exist_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"leases\.options\.profile.*nobody"):
            await open_store("g", {"profile": "nobody"})

    async def test_no_region_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_REGION", raising=False)
        with pytest.raises(ConfigError, match=r"stream\.region"):
            await open_store("g", {})

    async def test_an_endpoint_that_is_no_url_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"leases\.options\.endpoint_url = 'nowhere'"):
            await open_store("g", {"endpoint_url": "nowhere"})


class TestKclWorkerMetrics:
    async def test_the_row_is_there_while_the_store_is_open(
        self, open_table: OpenTable, client: Any, table: str
    ) -> None:
        store = await open_table(kcl3_metrics=True, worker_id="host-1")
        [row] = client.scan(TableName=f"{table}-WorkerMetricStats")["Items"]
        assert row.keys() == {"wid", "lut", "sts", "opr"}
        assert row["wid"] == {"S": "host-1"}
        assert (row["sts"], row["opr"]) == ({"M": {}}, {"M": {}})
        assert int(row["lut"]["N"]) > 1_700_000_000
        await store.aclose()
        assert client.scan(TableName=f"{table}-WorkerMetricStats")["Items"] == []

    async def test_a_single_table_of_kcl_3_5_gets_a_row_of_kcls_kind(
        self, open_table: OpenTable, client: Any, table: str
    ) -> None:
        store = await open_table(kcl3_metrics=True, kcl3_metrics_table=table, worker_id="host-1")
        [row] = client.scan(TableName=table)["Items"]
        assert row["leaseKey"] == {"S": "host-1"}
        assert row["entityType"] == {"S": "WORKER_METRIC_STATS"}
        assert await store.list() == []

    async def test_without_the_option_nothing_but_leases_is_written(
        self, open_table: OpenTable, client: Any, table: str
    ) -> None:
        store = await open_table()
        await store.create(LEASE)
        await store.replace(LEASE, taken(LEASE, "you"))
        assert len(client.scan(TableName=table)["Items"]) == 1
        assert f"{table}-WorkerMetricStats" not in client.list_tables()["TableNames"]


async def test_a_server_that_does_not_tell_the_row_is_asked_for_it(dynalite: str) -> None:
    """dynalite knows no ReturnValuesOnConditionCheckFailure."""
    store = await open_store(
        "all-old", {"endpoint_url": dynalite, "region": "us-east-1", "timeout": 30.0}
    )
    await store.create(LEASE)
    assert await store.replace(renewed(LEASE), renewed(renewed(LEASE))) == LEASE
    assert not await store.delete(renewed(LEASE))
    await store.aclose()
