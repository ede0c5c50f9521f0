"""A lease store whose calls are bounded in time and whose failures are counted and logged."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from streamproc.errors import LeaseStoreError
from streamproc.leases.lease import BulkLeaseStore, Lease, LeaseStore
from streamproc.leases.statistics import Tally

__all__ = ["WatchedStore"]

log = logging.getLogger("streamproc.leases")
T = TypeVar("T")
Item = TypeVar("Item")

CONCURRENT_CALLS = 32
"""Calls in flight at once, so that thousands of leases are renewed in time."""


class WatchedStore:
    """Passes calls on to a store; a call without an answer in time is a `LeaseStoreError` too.

    Args:
        store: the store that keeps the leases.
        worker_id: named in the log.
        duration: the lease duration in seconds. A write may take a third of it, so that a hanging
            one leaves time for another before the lease expires; a listing all of it.
        tally: where failures are counted.

    Attributes:
        changes: how many writes have changed who holds or may hold a lease, or which leases exist;
            renewals and checkpoints are none.
        on_change: called after each of them.
    """

    def __init__(self, store: LeaseStore, worker_id: str, duration: float, tally: Tally) -> None:
        self.changes = 0
        self.on_change: Callable[[], None] = _ignore
        self._store = store
        self._worker_id = worker_id
        self._duration = duration
        self._tally = tally
        self._failures = 0

    @property
    def healthy(self) -> bool:
        """Whether the last call succeeded."""
        return not self._failures

    async def list(self) -> list[Lease]:
        """Return every lease."""
        return await self._call("list", self._store.list(), self._duration)

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already."""
        created = await self._call("create", self._store.create(lease), self._duration / 3)
        return self._noting(created)

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Compare and set; return the row as stored afterwards."""
        row = await self._call("replace", self._store.replace(old, new), self._duration / 3)
        self._noting(row == new and _changes_standing(old, new))
        return row

    @property
    def takes_many(self) -> bool:
        """Whether many writes are one call."""
        return isinstance(self._store, BulkLeaseStore)

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        """Compare and set many rows in one call; return each as stored afterwards."""
        assert isinstance(self._store, BulkLeaseStore), "asked for only where takes_many"
        call = self._store.replace_all(changes)
        rows = await self._call("replace", call, self._duration / 3)
        for row, (old, new) in zip(rows, changes, strict=True):
            if _changes_standing(old, new):
                self._noting(row == new)
        return rows

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it still matches."""
        gone = await self._call("delete", self._store.delete(old), self._duration / 3)
        return self._noting(gone)

    async def each(
        self, items: Sequence[Item], action: Callable[[Item], Awaitable[None]]
    ) -> builtins.list[LeaseStoreError]:
        """Apply an action to all items, some at a time; a store error ends only its own item."""
        places = asyncio.Semaphore(CONCURRENT_CALLS)
        errors = []

        async def one(item: Item) -> None:
            async with places:
                try:
                    await action(item)
                except LeaseStoreError as error:
                    errors.append(error)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
        return errors

    def _noting(self, changed: bool) -> bool:
        if changed:
            self.changes += 1
            self.on_change()
        return changed

    async def _call(self, operation: str, answer: Awaitable[T], timeout: float) -> T:
        try:
            async with asyncio.timeout(timeout):
                result = await answer
        except TimeoutError:
            error = LeaseStoreError(f"the lease store gave no answer within {timeout:g} s")
            self._failed(operation, error)
            raise error from None
        except LeaseStoreError as error:
            self._failed(operation, error)
            raise
        if self._failures:
            log.info(
                "%s: lease store works again after %d failures", self._worker_id, self._failures
            )
            self._failures = 0
        return result

    def _failed(self, operation: str, error: LeaseStoreError) -> None:
        self._tally.count("store_errors")
        self._failures += 1
        if self._failures == 1:
            log.warning(
                "%s: lease store fails to %s: %s; trying again", self._worker_id, operation, error
            )


def _changes_standing(old: Lease, new: Lease) -> bool:
    return (
        old.owner != new.owner
        or old.checkpoint_owner != new.checkpoint_owner
        or old.is_finished != new.is_finished
    )


def _ignore() -> None:
    """Tell nobody."""
