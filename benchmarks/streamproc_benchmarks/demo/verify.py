"""Holds what came out against the oracle; every difference becomes a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from streamproc_benchmarks.demo.observe import Observed, OutboxEntry
from streamproc_benchmarks.demo.oracle import Expected, Flag, Level

__all__ = ["Check", "Tally", "check_counters", "flagged_payments", "verify"]

K = TypeVar("K", bound=Hashable)

_USUAL: Final = {"PaymentFlagged", "Oversold", "LedgerEntry", "StockLow", "BackInStock"}
"""What a sound run emits whenever it likes."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was verified; it holds when there are no differences."""

    name: str
    detail: str
    differences: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether all is as it must be."""
        return not self.differences


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker counted, as records by what became of them.

    Attributes:
        counted: by the worker itself: processed, duplicates and dead letters under the oracle's
            names for them, and records, their sum by the worker's own counting.
        unreported: what a killed worker committed after its last status, by what its shards took
            between the position in that status and the one in Redis.
    """

    worker: str
    records: int
    counted: Counter[str]
    unreported: Counter[str]


def verify(expected: Expected, observed: Observed) -> list[Check]:
    """Return all checks of what Redis holds."""
    return [
        _check_marks(expected, observed),
        _check_spend(expected, observed),
        _check_stock(expected, observed),
        _check_flags(expected, observed.outbox),
        _check_stock_alerts(expected, observed.outbox),
        _check_ledger(observed),
        _check_dead_letters(expected, observed),
    ]


def flagged_payments(observed: Observed) -> set[str]:
    """Return the ids of the payments that the outbox has alerts for."""
    return {e.data["payment_id"] for e in observed.outbox if e.type == "PaymentFlagged"}


def check_counters(counts: Counter[str], tallies: Sequence[Tally]) -> Check:
    """Compare the workers' counters with what was published."""
    differences = []
    total: Counter[str] = Counter()
    for tally in tallies:
        total += tally.counted + tally.unreported
        if tally.records != tally.counted.total():
            differences.append(
                f"{tally.worker} counts {tally.records:,} records, but {tally.counted.total():,} "
                "processed, duplicate and dead-lettered ones"
            )
    names = {"event": "processed events", "duplicate": "duplicates", "poison": "dead letters"}
    differences += [
        f"{name}: the workers count {total[kind]:,}, published were {counts[kind]:,}"
        for kind, name in names.items()
        if total[kind] != counts[kind]
    ]
    parts = " + ".join(
        f"{(tally.counted + tally.unreported).total():,} by {tally.worker}" for tally in tallies
    )
    return Check("counters add up", f"{parts} = {counts.total():,} records", differences)


def _check_marks(expected: Expected, observed: Observed) -> Check:
    events = expected.counts["event"]
    detail = f"{events:,} events, {expected.counts['duplicate']:,} duplicates dropped"
    differences = []
    if observed.marks != events:
        differences = [f"{observed.marks:,} event ids are marked as committed, not {events:,}"]
    return Check("every event once", detail, differences)


def _check_spend(expected: Expected, observed: Observed) -> Check:
    payments = sum(count for of in expected.spend.values() for count, _ in of.values())
    detail = f"{payments:,} payments on {len(expected.spend):,} cards, counts and sums"
    return Check("card totals right", detail, _differences("card", expected.spend, observed.spend))


def _check_stock(expected: Expected, observed: Observed) -> Check:
    oversold = sum(level.available < 0 for level in expected.levels.values())
    detail = f"{len(expected.levels):,} stocks, {oversold} of them oversold"
    return Check("stock right", detail, _differences("stock", expected.levels, observed.levels))


def _check_flags(expected: Expected, outbox: Sequence[OutboxEntry]) -> Check:
    entries = [entry for entry in outbox if entry.type == "PaymentFlagged"]
    differences = _repeated("alert id", Counter(entry.id for entry in outbox))
    differences += _repeated(
        "alert for payment", Counter(entry.data["payment_id"] for entry in entries)
    )
    found = {entry.data["payment_id"]: _flag(entry.data) for entry in entries}
    differences += _differences("alert for payment", expected.flags, found)
    detail = f"{len(expected.flags):,} PaymentFlagged in the outbox, ids unique"
    return Check("each fraud alert once", detail, differences)


def _check_stock_alerts(expected: Expected, outbox: Sequence[OutboxEntry]) -> Check:
    """Check the alerts on stock.

    How often a stock dips below zero, and what a count finds, depends on how shards interleave;
    which stocks can dip, and which must have dipped because they end there, does not.
    """
    entries = [entry for entry in outbox if entry.type == "Oversold"]
    stocks = {f"{entry.data['sku']}|{entry.data['locationId']}" for entry in entries}
    must = {stock for stock, level in expected.levels.items() if level.available < 0}
    causes = Counter(
        f"{entry.data['sku']}|{entry.data['locationId']} by {entry.cause}" for entry in entries
    )
    differences = _repeated("oversold alert for", causes)
    differences += [f"no oversold alert for stock {stock}" for stock in sorted(must - stocks)]
    differences += [
        f"an oversold alert for stock {stock}, which cannot be oversold"
        for stock in sorted(stocks - expected.may_oversell)
    ]
    mismatches = [entry for entry in outbox if entry.type == "CountMismatch"]
    differences += _repeated("count", Counter(entry.data["countId"] for entry in mismatches))
    differences += [
        f"an alert that nothing gives cause for: {entry.type} {entry.data}"
        for entry in outbox
        if entry.type not in _USUAL and not _has_cause(entry, expected)
    ]
    detail = (
        f"{len(entries)} Oversold alerts on {len(stocks)} stocks, "
        f"{len(mismatches)} CountMismatch of {len(expected.stock_counts)} counts"
    )
    return Check("stock alerts right", detail, differences)


def _has_cause(entry: OutboxEntry, expected: Expected) -> bool:
    """Whether a sound run may say so: goods leave before they came, and theft shows in a count."""
    data = entry.data
    if entry.type == "CountMismatch":
        return bool(expected.stock_counts.get(data["countId"]) is data["applied"])
    if entry.type == "InventoryAnomaly" and data["kind"] == "negative-on-hand":
        return f"{data['sku']}|{data['locationId']}" in expected.may_oversell
    return False


def _check_ledger(observed: Observed) -> Check:
    """Follow the ledger of each stock from nothing to its levels, without a break."""
    differences = []
    reached: dict[str, tuple[int, list[int]]] = {}
    entries = [entry for entry in observed.outbox if entry.type == "LedgerEntry"]
    for entry in entries:
        data = entry.data
        stock = f"{data['sku']}|{data['locationId']}"
        version, levels = reached.get(stock, (0, [0] * len(data["before"])))
        if (data["version"], data["before"]) != (version + 1, levels):
            differences.append(f"ledger of {stock}: entry {data['version']} follows {version}")
        reached[stock] = (data["version"], data["after"])
    ends = {stock: Level(*levels) for stock, (_, levels) in reached.items()}
    differences += _differences("the ledger's end for stock", observed.levels, ends)
    detail = f"{len(entries):,} entries, from nothing to the stock, without a break"
    return Check("ledger = stock", detail, differences)


def _check_dead_letters(expected: Expected, observed: Observed) -> Check:
    differences = []
    for payload, times in (expected.dead_letters - observed.dead_letters).items():
        differences.append(f"poison that is not in the dead letters ({times}x): {payload[:60]!r}")
    for payload, times in (observed.dead_letters - expected.dead_letters).items():
        differences.append(f"a dead letter too many ({times}x): {payload[:60]!r}")
    detail = f"{expected.dead_letters.total():,} payloads, byte for byte"
    return Check("dead letters = poison", detail, differences)


def _flag(data: Mapping[str, Any]) -> Flag:
    features = data["features"]
    return Flag(
        tuple(data["reasons"]),
        data["amount_minor"],
        features["card_count_1m"],
        features["card_prior_count_30d"],
    )


def _repeated(what: str, counts: Counter[str]) -> list[str]:
    return [f"{what} {name} is there {n} times" for name, n in counts.items() if n > 1]


def _differences(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    texts = []
    for key in sorted({*expected, *found}):
        if key not in found:
            texts.append(f"{what} {key} is missing: {expected[key]}")
        elif key not in expected:
            texts.append(f"{what} {key} should not be there: {found[key]}")
        elif found[key] != expected[key]:
            texts.append(f"{what} {key} is {found[key]}, must be {expected[key]}")
    return texts
