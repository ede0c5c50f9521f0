"""Transactions as parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from streamproc import ConfigError
from streamproc_fraud.world.simulator import Transactions

__all__ = ["read_parquet", "write_parquet"]

_TYPES: Final = {
    "t": "int32", "customer": "int32", "terminal": "int32", "amount_cents": "int64",
    "fraud": "int8", "scenario": "int8",
}  # fmt: skip


def write_parquet(transactions: Transactions, path: Path) -> None:
    """Write one row a payment: ``tx_id`` from 0, and the columns of `Transactions`."""
    arrow, parquet = _arrow()
    columns: dict[str, Any] = {"tx_id": arrow.array(np.arange(len(transactions.t), dtype="int32"))}
    for name, kind in _TYPES.items():
        columns[name] = arrow.array(getattr(transactions, name).astype(kind))
    parquet.write_table(arrow.table(columns), path)


def read_parquet(path: Path) -> Transactions:
    """Read a file of that form; without the columns ``fraud`` and ``scenario`` all are genuine.

    Raises:
        ConfigError: it is no such file.
    """
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowInvalid) as error:
        raise ConfigError(f"{path} cannot be read as parquet: {error}") from None
    missing = {"t", "customer", "terminal", "amount_cents"} - set(table.column_names)
    if missing:
        raise ConfigError(f"{path} has no column {', '.join(sorted(missing))}")
    columns = {
        name: table[name].to_numpy().astype("int64")
        if name in table.column_names
        else np.zeros(table.num_rows, dtype="int64")
        for name in _TYPES
    }
    if (np.diff(columns["t"]) < 0).any():
        raise ConfigError(f"{path}: the rows are not in the order of their time, column t")
    columns["fraud"] = columns["fraud"].astype(bool)
    return Transactions(**columns)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"parquet needs pyarrow: pip install 'streamproc[fraud]' ({error})"
        ) from None
    return pyarrow, pyarrow.parquet
