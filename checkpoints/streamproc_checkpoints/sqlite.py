"""Leases in an SQLite file: for the workers of one host, without a server.

The file must be on a local disk; SQLite's locks do not hold on network file systems.
"""

from __future__ import annotations

import asyncio
import builtins
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streamproc.config import Seconds
from streamproc.entries import read_options
from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore
from streamproc_checkpoints.rows import decode_row, encode_row

__all__ = ["SqliteLeaseStore", "open_store"]

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    consumer_group TEXT NOT NULL,
    lease_key TEXT NOT NULL,
    counter INTEGER NOT NULL,
    owner TEXT,
    checkpoint_owner TEXT,
    lease BLOB NOT NULL,
    PRIMARY KEY (consumer_group, lease_key)
) WITHOUT ROWID
"""

_SAME_VERSION = (
    "consumer_group = ? AND lease_key = ? AND counter = ? AND owner IS ? AND checkpoint_owner IS ?"
)


class SqliteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[leases.options]` of the sqlite store.

    Attributes:
        path: the file; created when missing, its folder must exist.
        timeout: seconds to wait while another process writes.
    """

    path: str
    timeout: Seconds = 5.0


class SqliteLeaseStore:
    """The leases of one group in an SQLite file that several processes may share.

    Every call runs in one thread of the store's own, which is the connection's only user.
    """

    def __init__(self, path: Path, group: str, timeout: float) -> None:
        self._path = path
        self._group = group
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leases-sqlite")
        self._closed = False

    async def open(self) -> None:
        """Open the file, create what is missing in it."""
        await self._in_thread(self._open)

    async def list(self) -> list[Lease]:
        """Return every lease; rows that are none are logged and passed over."""
        return await self._in_thread(self._list)

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already."""
        return await self._in_thread(lambda: self._create(lease))

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Write `new` iff the row is still at `old`'s version; return the row as it is then."""
        return (await self.replace_all([(old, new)]))[0]

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        """Do for each pair what `replace` does, with one write to the disk."""
        return await self._in_thread(lambda: self._replace_all(changes))

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it is still at `old`'s version; True when it is gone."""
        return await self._in_thread(lambda: self._delete(old))

    async def aclose(self) -> None:
        """Close the file and end the thread."""
        if not self._closed:
            await self._in_thread(self._close)
            self._closed = True
            self._thread.shutdown()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise LeaseStoreError(f"lease file {self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            raise LeaseStoreError(
                f"lease file {self._path}: {error}; check that it is a streamproc lease file on a "
                "local disk, writable, and that no other program holds it locked"
            ) from error

    # In the thread.

    def _open(self) -> None:
        # No implicit transactions: each statement is its own, but where one is spelled out.
        connection = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        # A counter that a power cut takes back would hand out the same epoch twice.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_SCHEMA)

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the file is closed")
        return self._connection

    def _list(self) -> builtins.list[Lease]:
        query = "SELECT lease_key, lease FROM leases WHERE consumer_group = ?"
        rows = (
            decode_row(data, f"lease {key} in {self._path}")
            for key, data in self._db.execute(query, (self._group,))
        )
        return [row for row in rows if row is not None]

    def _create(self, lease: Lease) -> bool:
        cursor = self._db.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self._group, lease.key, *_columns(lease)),
        )
        return cursor.rowcount == 1

    def _replace_all(self, changes: Sequence[tuple[Lease, Lease]]) -> builtins.list[Lease | None]:
        # One transaction, so that a row returned is the one that differed.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            rows = [self._replace(old, new) for old, new in changes]
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return rows

    def _replace(self, old: Lease, new: Lease) -> Lease | None:
        cursor = self._db.execute(
            "UPDATE leases SET counter = ?, owner = ?, checkpoint_owner = ?, lease = ?"
            f" WHERE {_SAME_VERSION}",
            (*_columns(new), *self._version(old)),
        )
        return new if cursor.rowcount == 1 else self._read(old.key)

    def _read(self, key: str) -> Lease | None:
        query = "SELECT lease FROM leases WHERE consumer_group = ? AND lease_key = ?"
        found = self._db.execute(query, (self._group, key)).fetchone()
        return None if found is None else decode_row(found[0], f"lease {key} in {self._path}")

    def _delete(self, old: Lease) -> bool:
        self._db.execute(f"DELETE FROM leases WHERE {_SAME_VERSION}", self._version(old))
        query = "SELECT 1 FROM leases WHERE consumer_group = ? AND lease_key = ?"
        return self._db.execute(query, (self._group, old.key)).fetchone() is None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _version(self, lease: Lease) -> tuple[str, str, int, str | None, str | None]:
        return (self._group, lease.key, lease.counter, lease.owner, lease.checkpoint_owner)


def _columns(lease: Lease) -> tuple[int, str | None, str | None, bytes]:
    return (lease.counter, lease.owner, lease.checkpoint_owner, encode_row(lease))


async def open_store(group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Open or create the file and return the group's leases.

    Raises:
        ConfigError: an option is wrong, or the file's folder does not exist.
        LeaseStoreError: the file cannot be opened or is none of ours.
    """
    settings = read_options(SqliteOptions, options, "leases.options", "the sqlite store")
    path = Path(settings.path)
    if not await asyncio.to_thread(path.parent.is_dir):
        raise ConfigError(
            f"leases.options.path: there is no folder {path.parent}; create it or name another file"
        )
    store = SqliteLeaseStore(path, group, settings.timeout)
    try:
        await store.open()
    except LeaseStoreError:
        await store.aclose()
        raise
    return store
