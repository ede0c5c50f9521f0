"""The lease table: found, checked, and created when it is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from streamproc.errors import ConfigError, LeaseStoreError
from streamproc_checkpoints.dynamodb_calls import Calls, TableMissing

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

__all__ = ["ensure_table"]

log = logging.getLogger("streamproc.checkpoints")

_OWNER_INDEX: Final = {
    "IndexName": "LeaseOwnerToLeaseKeyIndex",
    "KeySchema": [
        {"AttributeName": "leaseOwner", "KeyType": "HASH"},
        {"AttributeName": "leaseKey", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
"""By which workers of KCL 3.x find what their leader assigned to them."""

_POLL_S: Final = 0.5
_PATIENCE_S: Final = 120.0


async def ensure_table(
    calls: Calls,
    client: DynamoDBClient,
    table: str,
    key: str,
    *,
    create: bool = True,
    owner_index: bool = False,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Make sure that a table with one string key exists and is usable.

    Args:
        calls: makes the calls.
        client: the DynamoDB client.
        table: the table's name.
        key: its partition key.
        create: whether to create a missing one, billed per request as KCL 3.x does.
        owner_index: whether a created one gets the index that KCL 3.x needs. An existing table gets
            it from KCL itself.
        sleep: waits for seconds.

    Raises:
        ConfigError: the table is not of this kind.
        LeaseStoreError: it is missing and not to be created, or DynamoDB does not serve.
    """
    try:
        description = await _describe(calls, client, table)
    except TableMissing:
        if not create:
            raise
        await _create(calls, client, table, key, owner_index=owner_index)
        description = await _created(calls, client, table)
    waited = 0.0
    while description["TableStatus"] == "CREATING":
        if waited >= _PATIENCE_S:
            raise LeaseStoreError(f"{calls.where}: still being created after {waited:.0f} s")
        await sleep(_POLL_S)
        waited += _POLL_S
        description = await _created(calls, client, table)
    schema = [(part["AttributeName"], part["KeyType"]) for part in description["KeySchema"]]
    if schema != [(key, "HASH")]:
        raise ConfigError(
            f"{calls.where}: its key is {schema}, not {key!r} alone, so it is no table of this "
            "kind; name another in leases.options"
        )


async def _describe(calls: Calls, client: DynamoDBClient, table: str) -> dict[str, Any]:
    answer = await calls(client.describe_table, TableName=table)
    description: dict[str, Any] = answer["Table"]
    return description


async def _created(calls: Calls, client: DynamoDBClient, table: str) -> dict[str, Any]:
    try:
        return await _describe(calls, client, table)
    except TableMissing:  # DescribeTable is eventually consistent.
        return {"TableStatus": "CREATING"}


async def _create(
    calls: Calls, client: DynamoDBClient, table: str, key: str, *, owner_index: bool
) -> None:
    names = [key, "leaseOwner"] if owner_index else [key]
    arguments: dict[str, Any] = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in names],
    }
    if owner_index:
        arguments["GlobalSecondaryIndexes"] = [_OWNER_INDEX]
    try:
        await calls(client.create_table, **arguments)
    except LeaseStoreError as error:
        cause: Any = error.__cause__
        code = getattr(cause, "response", {}).get("Error", {}).get("Code")
        if code != "ResourceInUseException":  # Another worker was first.
            raise
        return
    log.info("%s: created", calls.where)
