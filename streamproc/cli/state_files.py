"""The files that `streamproc state export` writes: the same rows in three formats."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from streamproc.errors import ConfigError

__all__ = ["Format", "Row", "open_writer"]

_ROWS_AT_ONCE: Final = 10_000


class Format(StrEnum):
    """What `--format` takes."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Row(msgspec.Struct, frozen=True):
    """One key; in csv and parquet, `key` is its parts joined by ``|``, and `value` a JSON text."""

    processor: str
    kind: Literal["state", "counters"]
    key: list[str]
    version: int
    schema: int
    value: msgspec.Raw

    def flat(self) -> dict[str, Any]:
        """Return the columns."""
        return {
            "processor": self.processor,
            "kind": self.kind,
            "key": "|".join(part.replace("%", "%25").replace("|", "%7C") for part in self.key),
            "version": self.version,
            "schema": self.schema,
            "value": bytes(self.value).decode(),
        }


@contextlib.contextmanager
def open_writer(file_format: Format, out: Path) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes rows; the file has its name once all are written.

    Raises:
        ConfigError: the file cannot be written, or the format needs a package that is missing.
    """
    if str(out) == "-":
        if file_format is Format.parquet:
            raise ConfigError("--out -: parquet is written to a file; name one")
        with _FORMATS[file_format](sys.stdout.buffer) as write:
            yield write
        sys.stdout.buffer.flush()
        return
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            with _FORMATS[file_format](file) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _jsonl(file: IO[bytes]) -> Iterator[Callable[[Row], None]]:
    encode = msgspec.json.Encoder().encode

    def write(row: Row) -> None:
        file.write(encode(row) + b"\n")

    yield write


@contextlib.contextmanager
def _csv(file: IO[bytes]) -> Iterator[Callable[[Row], None]]:
    lines: list[str] = []

    class _Lines:
        def write(self, line: str) -> None:
            lines.append(line)

    writer = csv.writer(_Lines(), lineterminator="\n")

    def flush() -> None:
        file.write("".join(lines).encode())
        lines.clear()

    def write(row: Row) -> None:
        writer.writerow(row.flat().values())
        flush()

    writer.writerow(_COLUMNS)
    flush()
    yield write


@contextlib.contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Callable[[Row], None]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigError(
            "--format parquet needs pyarrow: pip install 'streamproc[parquet]'"
        ) from None
    text, number = pyarrow.string(), pyarrow.int64()
    types = [text, text, text, number, number, text]
    schema = pyarrow.schema(list(zip(_COLUMNS, types, strict=True)))
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(file, schema) as writer:

        def write(row: Row) -> None:
            rows.append(row.flat())
            if len(rows) == _ROWS_AT_ONCE:
                flush()

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            rows.clear()

        yield write
        flush()


_COLUMNS: Final = ("processor", "kind", "key", "version", "schema", "value")
_FORMATS: Final = {Format.jsonl: _jsonl, Format.csv: _csv, Format.parquet: _parquet}
