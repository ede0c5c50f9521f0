"""The row by which a KCL 3.x leader knows this worker and assigns leases to it.

Without such a row a worker keeps what it holds and takes what is free, but is given nothing. With
one, the leader counts it in: it may assign leases to it and ask for some back. The row says no more
than that the worker lives; KCL then balances by lease throughput. Source: KCL's WorkerMetricStats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from streamproc.errors import LeaseStoreError
from streamproc_checkpoints.dynamodb_calls import Calls

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

__all__ = ["WORKER_KEY", "WorkerMetrics"]

log = logging.getLogger("streamproc.checkpoints")

WORKER_KEY: Final = "wid"
"""Partition key of KCL's table of worker metrics (3.0 to 3.4); 3.5 writes to the lease table."""

REPORT_S: Final = 30.0
"""KCL's own interval; its leader forgets a worker after 60 s without a report."""


class WorkerMetrics:
    """Reports every 30 s that a worker lives, and takes the row away when it stops.

    KCL leaves its rows behind, and goes on assigning leases to a worker that stopped for a minute.

    Args:
        calls: makes the calls.
        client: the DynamoDB client.
        table: where the rows are; the lease table itself for a KCL 3.5 fleet.
        key: the table's partition key.
        worker_id: the name under which the worker owns leases.
        clock: seconds since the epoch, which is what KCL compares.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        calls: Calls,
        client: DynamoDBClient,
        table: str,
        key: str,
        worker_id: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._calls = calls
        self._client = client
        self._table = table
        self._key = {key: {"S": worker_id}}
        self._in_lease_table = key != WORKER_KEY
        self._clock = clock
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Write the row and go on doing so.

        Raises:
            LeaseStoreError: the first report failed.
        """
        await self.report()
        self._task = asyncio.create_task(self._report_for_ever(), name="KCL worker metrics")

    async def stop(self) -> None:
        """End the reports and remove the row; a failure is logged, for the row ages anyway."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        try:
            await self._calls(self._client.delete_item, TableName=self._table, Key=self._key)
        except LeaseStoreError as error:
            log.warning("KCL may assign leases to this worker for another minute: %s", error)

    async def report(self) -> None:
        """Write the row once.

        Raises:
            LeaseStoreError: DynamoDB does not serve.
        """
        row: dict[str, Any] = {
            **self._key,
            "lut": {"N": str(int(self._clock()))},
            "sts": {"M": {}},
            "opr": {"M": {}},
        }
        if self._in_lease_table:
            row["entityType"] = {"S": "WORKER_METRIC_STATS"}
        await self._calls(self._client.put_item, TableName=self._table, Item=row)

    async def _report_for_ever(self) -> None:
        while True:
            await self._sleep(REPORT_S)
            try:
                await self.report()
            except LeaseStoreError as error:
                log.warning("KCL's leader may take this worker for dead: %s", error)
