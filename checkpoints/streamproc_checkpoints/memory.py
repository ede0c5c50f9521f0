"""Leases in this process's memory: for tests, and for one process that may forget its place."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamproc.entries import read_options
from streamproc.leases.lease import Lease, LeaseStore
from streamproc_checkpoints.rows import same_version

__all__ = ["MemoryLeaseStore", "open_store"]


class MemoryOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The memory store has no options."""


class MemoryLeaseStore:
    """A dictionary of leases; safe to share between tasks, loops and threads."""

    def __init__(self) -> None:
        self._rows: dict[str, Lease] = {}
        self._lock = threading.Lock()

    async def list(self) -> list[Lease]:
        """Return every lease."""
        with self._lock:
            return list(self._rows.values())

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already."""
        with self._lock:
            if lease.key in self._rows:
                return False
            self._rows[lease.key] = lease
            return True

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Write `new` iff the row is still at `old`'s version; return the row as it is then."""
        with self._lock:
            row = self._rows.get(old.key)
            if row is not None and same_version(row, old):
                row = self._rows[old.key] = new
            return row

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        """Do for each pair what `replace` does."""
        return [await self.replace(old, new) for old, new in changes]

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it is still at `old`'s version; True when it is gone."""
        with self._lock:
            row = self._rows.get(old.key)
            if row is not None and same_version(row, old):
                del self._rows[old.key]
            return old.key not in self._rows

    async def aclose(self) -> None:
        """Do nothing: the rows live as long as the process."""


_stores: dict[str, MemoryLeaseStore] = {}


async def open_store(group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Return the group's store, the same for all workers of this process."""
    read_options(MemoryOptions, options, "leases.options", "the memory store")
    return _stores.setdefault(group, MemoryLeaseStore())
