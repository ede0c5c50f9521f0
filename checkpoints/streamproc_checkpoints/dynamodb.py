"""Leases in a DynamoDB table that KCL 2.x and 3.x can share: the same rows, the same rules.

Each compare-and-set is one conditional write on counter, owner and checkpoint owner. That is
stricter than KCL's own conditions and sees everything that KCL writes: each of its writes moves the
counter or an owner. What the rows look like is in `dynamodb_items`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import botocore.exceptions as boto
import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from msgspec import Meta

from streamproc.config import Seconds
from streamproc.entries import read_options
from streamproc.errors import ConfigError
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.position import Position
from streamproc_checkpoints.dynamodb_calls import ATTEMPTS, Calls, ConditionFailed
from streamproc_checkpoints.dynamodb_items import KEY, LeaseItems, MalformedRow
from streamproc_checkpoints.dynamodb_table import ensure_table
from streamproc_checkpoints.kcl_worker_metrics import WORKER_KEY, WorkerMetrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

__all__ = ["DynamoDbLeaseStore", "DynamoDbOptions", "open_store"]

log = logging.getLogger("streamproc.checkpoints")

_CONNECTIONS = 40
"""A few more than the calls that the lease coordinator has in flight."""


class DynamoDbOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[leases.options]` of the dynamodb store.

    Attributes:
        table: the lease table; the group's name, KCL's application name, if unset.
        region: the worker gives `stream.region` by default, then the AWS environment's.
        endpoint_url: another DynamoDB endpoint, such as a local one.
        profile: an AWS profile to take credentials from; unset looks where the AWS SDKs look.
        timeout: seconds until a call is given up, its tries included.
        consistent_reads: whether to pay for consistent listings, which leases do not need.
        create_table: whether to create a missing table, billed per request.
        stream_identifier: KCL's ``account:stream:epoch``, for the table of an application that
            reads several streams.
        kcl3_metrics: whether to report to a KCL 3.x leader, which then assigns leases.
        kcl3_metrics_table: where to report; ``<table>-WorkerMetricStats`` if unset, and the lease
            table's own name for a KCL 3.5 application with a single table.
        worker_id: the name that is reported; the worker gives its own.
        initial_position: where the group begins, as `Position.encode` has it; to read KCL's
            AT_TIMESTAMP rows, which have no time. The worker gives its own.
    """

    table: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    timeout: Seconds = 3.0
    consistent_reads: bool = False
    create_table: bool = True
    stream_identifier: Annotated[str, Meta(pattern=r"^[0-9]+:[^:]+:[0-9]+$")] | None = None
    kcl3_metrics: bool = False
    kcl3_metrics_table: str | None = None
    worker_id: str | None = None
    initial_position: str | None = None


class DynamoDbLeaseStore:
    """The leases of one stream in one table.

    Args:
        client: the DynamoDB client, which must not retry by itself.
        table: the lease table, which exists.
        items: reads and writes its rows.
        calls: makes the calls.
        consistent_reads: whether listings are consistent, at twice the price.
        resources: closed with the store.
    """

    metered = True

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        items: LeaseItems,
        calls: Calls,
        *,
        consistent_reads: bool = False,
        resources: AsyncExitStack | None = None,
    ) -> None:
        self._client = client
        self._table = table
        self._items = items
        self._calls = calls
        self._consistent_reads = consistent_reads
        self._resources = resources or AsyncExitStack()
        self._complained: set[str] = set()

    async def list(self) -> list[Lease]:
        """Return every lease; what is none is passed over, and logged if it should be one.

        The scan is eventually consistent by default, as KCL's is, at half the price: a row as it
        was a moment ago makes a write fail, never succeed wrongly.
        """
        leases: list[Lease] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self._calls(
                self._client.scan,
                TableName=self._table,
                ConsistentRead=self._consistent_reads,
                **page,
            )
            leases += [lease for item in answer["Items"] if (lease := self._read(item))]
            if "LastEvaluatedKey" not in answer:
                return leases
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already."""
        item = self._items.encode(lease)
        try:
            await self._calls(
                self._client.put_item,
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(#key)",
                ExpressionAttributeNames={"#key": KEY},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as failed:
            return failed.retried and await self._found(lease.key, failed) == item
        return True

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Write `new` iff the row is still at `old`'s version; return the row as it is then."""
        update = self._items.update(old, new)
        try:
            await self._calls(
                self._client.update_item,
                TableName=self._table,
                Key=self._items.key(old.key),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **update.arguments,
            )
        except ConditionFailed as failed:
            item = await self._found(old.key, failed)
            if failed.retried and item is not None and update.is_in(item):
                return new  # An earlier try landed, and its answer was lost.
            return None if item is None else self._read(item)
        return new

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it is still at `old`'s version; True when it is gone."""
        try:
            await self._calls(
                self._client.delete_item,
                TableName=self._table,
                Key=self._items.key(old.key),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **self._items.version(old),
            )
        except ConditionFailed as failed:
            return await self._found(old.key, failed) is None
        return True

    async def aclose(self) -> None:
        """Stop the reports to KCL and close the connections."""
        await self._resources.aclose()

    async def _found(self, key: str, failed: ConditionFailed) -> dict[str, Any] | None:
        """Return the row that failed a condition; read it where the server did not send it."""
        if failed.item is not None:
            return failed.item
        answer = await self._calls(
            self._client.get_item,
            TableName=self._table,
            Key=self._items.key(key),
            ConsistentRead=True,
        )
        return answer.get("Item")

    def _read(self, item: Mapping[str, Any]) -> Lease | None:
        try:
            return self._items.decode(item)
        except MalformedRow as error:
            key = str(item.get(KEY, {}).get("S"))
            if key not in self._complained:  # Every scan meets it again.
                self._complained.add(key)
                log.warning(
                    "row %s of %s is no lease and is passed over: %s",
                    key,
                    self._calls.where,
                    error,
                )
            return None


async def open_store(group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Connect to DynamoDB, see to the table, and return the group's leases.

    Raises:
        ConfigError: an option is wrong, or the table is no lease table.
        LeaseStoreError: DynamoDB does not serve, or there is no table and it is not to be created.
    """
    settings = read_options(DynamoDbOptions, options, "leases.options", "the dynamodb store")
    table = settings.table or group
    async with AsyncExitStack() as resources:
        client = await _client(settings, resources)
        calls = Calls(f"table {table} in {client.meta.region_name} at {client.meta.endpoint_url}")
        await ensure_table(
            calls,
            client,
            table,
            KEY,
            create=settings.create_table,
            owner_index=settings.kcl3_metrics,
        )
        if settings.kcl3_metrics:
            metrics = await _metrics(settings, table, client, calls)
            await metrics.start()
            resources.push_async_callback(metrics.stop)
        items = LeaseItems(settings.stream_identifier, _begin(settings))
        return DynamoDbLeaseStore(
            client,
            table,
            items,
            calls,
            consistent_reads=settings.consistent_reads,
            resources=resources.pop_all(),
        )


def _begin(settings: DynamoDbOptions) -> Position | None:
    if settings.initial_position is None:
        return None
    try:
        return Position.decode(settings.initial_position)
    except ValueError as error:
        raise ConfigError(f"leases.options.initial_position: {error}") from None


async def _client(settings: DynamoDbOptions, resources: AsyncExitStack) -> DynamoDBClient:
    session = AioSession(profile=settings.profile)
    # One attempt: the SDK would wait inside the call, and hide from the store that a write may
    # have been applied before the answer it reports.
    config = AioConfig(
        connect_timeout=settings.timeout / ATTEMPTS,
        read_timeout=settings.timeout / ATTEMPTS,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,
    )
    region = settings.region or await _configured_region(session, settings)
    try:
        client: DynamoDBClient = await resources.enter_async_context(
            session.create_client(
                "dynamodb", region_name=region, endpoint_url=settings.endpoint_url, config=config
            )
        )
    except boto.NoRegionError:
        raise ConfigError(
            "no AWS region is known; set leases.options.region, stream.region or AWS_REGION"
        ) from None
    except boto.ProfileNotFound as error:
        raise ConfigError(f"leases.options.profile: {error}") from None
    except ValueError as error:
        raise ConfigError(
            f"leases.options.endpoint_url = {settings.endpoint_url!r}: {error}"
        ) from None
    return client


async def _configured_region(session: AioSession, settings: DynamoDbOptions) -> str | None:
    try:
        configured: str | None = session.get_config_variable("region")
    except boto.ProfileNotFound as error:
        raise ConfigError(f"leases.options.profile: {error}") from None
    # A local endpoint does not care, but requests are signed for some region.
    return configured or ("us-east-1" if settings.endpoint_url else None)


async def _metrics(
    settings: DynamoDbOptions, table: str, client: DynamoDBClient, calls: Calls
) -> WorkerMetrics:
    if settings.worker_id is None:
        raise ConfigError("leases.options.kcl3_metrics needs leases.options.worker_id")
    name = settings.kcl3_metrics_table or f"{table}-WorkerMetricStats"
    if name == table:
        return WorkerMetrics(calls, client, table, KEY, settings.worker_id)
    own = Calls(calls.where.replace(table, name, 1))
    await ensure_table(own, client, name, WORKER_KEY, create=settings.create_table)
    return WorkerMetrics(own, client, name, WORKER_KEY, settings.worker_id)
