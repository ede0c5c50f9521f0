"""The ledger as parquet files, in a directory or a bucket; needs the extra `parquet`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamproc import ConfigError
from streamproc_inventory.levels import Levels
from streamproc_inventory.notices import LedgerEntry

if TYPE_CHECKING:
    import pyarrow

__all__ = ["LedgerReader", "LedgerRow", "LedgerWriter", "open_files"]

_LEVELS: Final = Levels.__struct_fields__
_ROWS_PER_FILE: Final = 20_000


class LedgerRow(msgspec.Struct, frozen=True):
    """An entry and what its envelope says of it.

    Attributes:
        id: the emitted event's id, the same each time it is delivered.
        time: when it happened, as RFC 3339 text; None where the event does not say.
        entry: the change.
    """

    id: str
    time: str | None
    entry: LedgerEntry

    @property
    def stock(self) -> tuple[str, str]:
        """Whose ledger it is in: (sku, location)."""
        return (self.entry.sku, self.entry.location_id)

    def flat(self) -> dict[str, Any]:
        """Return the columns of the file."""
        entry = self.entry
        columns: dict[str, Any] = {
            "id": self.id,
            "time": None if self.time is None else datetime.fromisoformat(self.time),
            "sku": entry.sku,
            "location_id": entry.location_id,
            "version": entry.version,
            "what": entry.what,
            "why": entry.why,
            "who": entry.who,
            "event_id": entry.event_id,
            "event_type": entry.event_type,
            "units": entry.units,
            "note": entry.note,
        }
        for name in _LEVELS:
            columns[f"{name}_before"] = getattr(entry.before, name)
            columns[f"{name}_after"] = getattr(entry.after, name)
        return columns


class LedgerWriter:
    """Appends entries to files below a place, by the day on which they are written.

    A file is written anew with each append until it is full, so that what `append` returned from
    is on the disk or in the bucket, and there is no file for every few entries. Each writer has
    files of its own: ``<place>/<day>/<writer>-<number>.parquet``.

    Args:
        place: a directory, or ``s3://bucket/prefix``; ``?endpoint_override=...`` and the other
            parameters of Arrow's file systems may follow.

    Raises:
        ConfigError: pyarrow is not installed, or the place makes no sense.
    """

    def __init__(self, place: str) -> None:
        self._files, self._root = open_files(place)
        self._name = uuid.uuid4().hex[:12]
        self._number = 0
        self._rows: list[dict[str, Any]] = []
        self._day = ""

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Write `rows` for good; blocks.

        Raises:
            OSError: they could not be written; none of them counts as such.
        """
        import pyarrow.parquet as parquet

        today = datetime.now(UTC).date().isoformat()
        if today != self._day or len(self._rows) >= _ROWS_PER_FILE:
            self._day, self._rows, self._number = today, [], self._number + 1
        written = [*self._rows, *[row.flat() for row in rows]]
        directory = self._root / today
        self._files.create_dir(str(directory), recursive=True)
        name = f"{self._name}-{self._number:05}.parquet"
        # Readers pass over names that begin with a dot; the move makes the file appear whole.
        hidden, final = str(directory / f".{name}"), str(directory / name)
        table = _table(written)
        if self._files.type_name == "s3":
            parquet.write_table(table, final, filesystem=self._files)  # an object appears whole
        else:
            parquet.write_table(table, hidden, filesystem=self._files)
            self._files.move(hidden, final)
        self._rows = written


class LedgerReader:
    """Reads the files below a place.

    Raises:
        ConfigError: pyarrow is not installed, or the place makes no sense.
    """

    def __init__(self, place: str) -> None:
        self._files, self._root = open_files(place)

    def rows(self, sku: str | None = None, location_id: str | None = None) -> Iterator[LedgerRow]:
        """Yield all entries, or those of an item or a stock; some may come twice, in any order."""
        import pyarrow.parquet as parquet

        chosen = [
            (name, "=", value)
            for name, value in (("sku", sku), ("location_id", location_id))
            if value is not None
        ]
        for path in self._paths():
            table = parquet.read_table(path, filesystem=self._files, filters=chosen or None)
            for row in table.to_pylist():
                yield _row(row)

    def _paths(self) -> Iterable[str]:
        from pyarrow import fs

        selector = fs.FileSelector(str(self._root), recursive=True, allow_not_found=True)
        return sorted(
            found.path
            for found in self._files.get_file_info(selector)
            if found.is_file
            and found.path.endswith(".parquet")
            and not PurePosixPath(found.path).name.startswith(".")
        )


def open_files(place: str) -> tuple[Any, PurePosixPath]:
    """Return Arrow's file system for a place, and the path in it.

    Raises:
        ConfigError: pyarrow is not installed, or the place makes no sense.
    """
    with _named_dependency():
        import pyarrow
        from pyarrow import fs
    try:
        if "://" in place:
            found, path = fs.FileSystem.from_uri(place)
        else:
            found, path = fs.LocalFileSystem(), place
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{place}: {error}; name a directory, or s3://bucket/prefix") from error
    return found, PurePosixPath(path)


@contextlib.contextmanager
def _named_dependency() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            "parquet files need pyarrow; install it with: pip install 'streamproc[parquet]'"
        ) from error


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    texts = ("what", "why", "who", "event_id", "event_type")
    return pa.schema(
        [
            ("id", pa.string()),
            ("time", pa.timestamp("ms", tz="UTC")),
            ("sku", pa.string()),
            ("location_id", pa.string()),
            ("version", pa.int64()),
            *[(name, pa.string()) for name in texts],
            ("units", pa.int64()),
            ("note", pa.string()),
            *[(f"{n}_{when}", pa.int64()) for n in _LEVELS for when in ("before", "after")],
        ]
    )


def _table(rows: list[dict[str, Any]]) -> pyarrow.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())


def _row(row: dict[str, Any]) -> LedgerRow:
    entry = LedgerEntry(
        sku=row["sku"],
        location_id=row["location_id"],
        version=row["version"],
        what=row["what"],
        why=row["why"],
        who=row["who"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        units=row["units"],
        note=row["note"],
        before=Levels(*[row[f"{name}_before"] for name in _LEVELS]),
        after=Levels(*[row[f"{name}_after"] for name in _LEVELS]),
    )
    time = row["time"]
    return LedgerRow(row["id"], None if time is None else time.isoformat(), entry)
