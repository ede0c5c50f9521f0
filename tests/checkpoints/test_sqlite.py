"""The SQLite store's own ground: the file, its folder, and other programs that use it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.lease import Lease, renewed
from streamproc.position import TRIM_HORIZON
from streamproc_checkpoints.sqlite import open_store

LEASE = Lease(key="a", owner="me", counter=1, checkpoint=TRIM_HORIZON)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"leases\.options\.path.*{tmp_path / 'none'}"):
        await open_store("g", {"path": str(tmp_path / "none" / "leases.db")})


async def test_the_path_must_be_given() -> None:
    with pytest.raises(ConfigError, match="path"):
        await open_store("g", {})


async def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database, but long enough to be looked at closely" * 50)
    with pytest.raises(LeaseStoreError, match=r"notes\.txt.*not a database"):
        await open_store("g", {"path": str(path)})


async def test_a_write_that_fails_half_way_leaves_no_transaction_open(tmp_path: Path) -> None:
    path = tmp_path / "leases.db"
    store = await open_store("g", {"path": str(path)})
    await store.create(LEASE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON leases BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    with pytest.raises(LeaseStoreError, match="refused"):
        await store.replace(LEASE, renewed(LEASE))
    other.execute("DROP TRIGGER no")
    other.close()
    assert await store.replace(LEASE, renewed(LEASE)) == renewed(LEASE)
    await store.aclose()


@pytest.mark.timeout(4)  # SQLite's own patience is 5 s; the option's is what counts.
async def test_a_file_that_another_program_holds_locked(tmp_path: Path) -> None:
    path = tmp_path / "leases.db"
    store = await open_store("g", {"path": str(path), "timeout": 0.01})
    await store.create(LEASE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LeaseStoreError, match="locked"):
        await store.replace(LEASE, renewed(LEASE))
    other.execute("ROLLBACK")
    other.close()
    assert await store.replace(LEASE, renewed(LEASE)) == renewed(LEASE)
    await store.aclose()


async def test_a_row_that_is_no_lease_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """KCL row 12."""
    path = tmp_path / "leases.db"
    store = await open_store("g", {"path": str(path)})
    await store.create(LEASE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("INSERT INTO leases VALUES ('g', 'bad', 1, NULL, NULL, 'nonsense')")
    other.close()
    assert await store.list() == [LEASE]
    assert "lease bad in" in caplog.text
    await store.aclose()


async def test_a_closed_store_fails_as_a_store_does(tmp_path: Path) -> None:
    store = await open_store("g", {"path": str(tmp_path / "leases.db")})
    await store.aclose()
    with pytest.raises(LeaseStoreError, match="closed"):
        await store.list()
