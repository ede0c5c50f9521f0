"""Holds stock against its ledger, and against what was counted."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from streamproc import ConfigError
from streamproc_inventory.ledger_file import LedgerRow, open_files
from streamproc_inventory.levels import Levels

__all__ = ["Difference", "audit_counted", "audit_ledger", "read_counted"]

StockKey = tuple[str, str]


class Difference(msgspec.Struct, frozen=True):
    """Something that does not fit.

    Attributes:
        sku, location_id: where.
        units: by how much, with its sign; what differences are sorted by.
        text: a sentence.
    """

    sku: str
    location_id: str
    units: int
    text: str


def audit_ledger(
    stocks: Mapping[StockKey, tuple[int, Levels]], rows: Iterable[LedgerRow]
) -> list[Difference]:
    """Follow each stock's ledger from nothing to its version; return all breaks.

    Args:
        stocks: version and levels by stock. Must have been read before `rows` were: entries beyond
            the version are later than the stock, and left out.
        rows: all entries, in any order; one that comes twice counts once.
    """
    ledgers: dict[StockKey, dict[int, LedgerRow]] = defaultdict(dict)
    for row in rows:
        ledgers[row.stock].setdefault(row.entry.version, row)
    differences = [
        difference
        for stock, (version, levels) in stocks.items()
        if (difference := _follow(stock, version, levels, ledgers.get(stock, {}))) is not None
    ]
    differences += [
        Difference(*stock, ledger[max(ledger)].entry.after.on_hand, "a ledger without a stock")
        for stock, ledger in ledgers.items()
        if stock not in stocks
    ]
    return sorted(differences, key=lambda found: (-abs(found.units), found.sku, found.location_id))


def audit_counted(
    stocks: Mapping[StockKey, tuple[int, Levels]], counted: Mapping[StockKey, int]
) -> list[Difference]:
    """Compare on_hand with what was counted, largest difference first."""
    differences = []
    for (sku, location_id), units in counted.items():
        _, levels = stocks.get((sku, location_id), (0, Levels()))
        if units != levels.on_hand:
            text = f"counted {units}, on hand {levels.on_hand}"
            differences.append(Difference(sku, location_id, units - levels.on_hand, text))
    return sorted(differences, key=lambda found: (-abs(found.units), found.sku, found.location_id))


def read_counted(path: Path) -> dict[StockKey, int]:
    """Read counted stock from a CSV or parquet file with columns sku, location_id and quantity.

    Raises:
        ConfigError: it cannot be read, or a line of it makes no sense.
    """
    if path.suffix == ".parquet":
        files, name = open_files(str(path))
        import pyarrow.parquet as parquet

        try:
            rows = parquet.read_table(str(name), filesystem=files).to_pylist()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    else:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    counted: dict[StockKey, int] = {}
    for number, row in enumerate(rows, 1):
        try:
            stock = (row["sku"], row["location_id"])
            units = int(row["quantity"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}, row {number}: it must have sku, location_id and a whole quantity, "
                f"and is {row}"
            ) from error
        if stock in counted:
            raise ConfigError(f"{path}, row {number}: {stock[0]} at {stock[1]} is there twice")
        counted[stock] = units
    return counted


def _follow(
    stock: StockKey, version: int, levels: Levels, ledger: Mapping[int, LedgerRow]
) -> Difference | None:
    reached = Levels()
    moved = 0
    for number in range(1, version + 1):
        row = ledger.get(number)
        if row is None:
            text = f"entry {number} of {version} is missing from the ledger"
            return Difference(*stock, levels.on_hand - reached.on_hand, text)
        if row.entry.before != reached:
            units = row.entry.before.on_hand - reached.on_hand
            return Difference(*stock, units, f"entry {number} begins where entry {number - 1} did "
                              f"not end")  # fmt: skip
        moved += row.entry.after.on_hand - row.entry.before.on_hand
        reached = row.entry.after
    if reached != levels or moved != levels.on_hand:
        text = f"on hand {levels.on_hand}, the moves of its ledger are {moved}"
        return Difference(*stock, levels.on_hand - moved, text)
    return None
