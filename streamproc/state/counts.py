"""The worker's copy of what Redis holds of a counter key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streamproc.errors import StateStoreError
from streamproc.state.changes import DIGEST_BYTES, Changes, RareChanges
from streamproc.state.series import Series
from streamproc.windows.numbers import Number

__all__ = ["CounterValues", "Counts"]

_NUMBER_BYTES: Final = 30


class CounterValues(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the counters of one key hold, for those who only look.

    Attributes:
        values: sums, least and greatest numbers by name.
        buckets: sums by name and bucket.
        distinct: numbers of different members by name; estimates beyond 128.
    """

    values: dict[str, Number] = {}
    buckets: dict[str, dict[int, Number]] = {}
    distinct: dict[str, int] = {}


class Counts:
    """What Redis holds of one counter key, as of `version`; 0 and empty for one that is not there.

    Shared by all batches of a worker, and changed only by what the store says. `size` is about
    how many bytes it would take in JSON, `held_bytes` what the cache counts it for.
    """

    __slots__ = ("digests", "estimates", "held_bytes", "key", "least", "most", "series", "size",
                 "sums", "version")  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.held_bytes = 0
        self._clear()

    def _clear(self) -> None:
        self.version = 0
        self.size = 0
        self.sums: dict[str, Number] = {}
        self.series: dict[str, Series] = {}
        self.least: dict[str, Number] = {}
        self.most: dict[str, Number] = {}
        self.digests: dict[str, set[bytes]] = {}
        self.estimates: dict[str, int] = {}

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        """Take over the fields of the stored hash.

        Raises:
            StateStoreError: a field is none that counters have, or holds no number.
        """
        self._clear()
        buckets: dict[str, dict[int, Number]] = {}
        for field, value in fields.items():
            try:
                self._load_field(field.decode(), value, buckets)
            except ValueError as error:
                raise StateStoreError(
                    f"the counter at {self.key}: no counter writes {value[:40]!r} into its field "
                    f"{field!r}; mend it, or delete the key"
                ) from error
        for name, held in buckets.items():
            ordered = sorted(held)
            self.series[name] = Series(ordered, [held[bucket] for bucket in ordered])
        self.version = int(fields.get(b"v", 0))
        self._measure()

    def values(self) -> CounterValues:
        """Return the numbers by name."""
        numbers = {**self.sums, **self.least, **self.most}
        buckets = {
            name: dict(zip(series.buckets, series.numbers, strict=True))
            for name, series in sorted(self.series.items())
        }
        members = {name: len(own) for name, own in self.digests.items()} | self.estimates
        return CounterValues(dict(sorted(numbers.items())), buckets, dict(sorted(members.items())))

    def to_fields(self) -> dict[str, Any]:
        """Return the values by the names of their hash fields, members as their number."""
        found: dict[str, Any] = {"v": self.version}
        for prefix, table in (("n", self.sums), ("min", self.least), ("max", self.most)):
            found |= {f"{prefix}:{name}": value for name, value in table.items()}
        for name, series in self.series.items():
            pairs = zip(series.buckets, series.numbers, strict=True)
            found |= {f"b:{bucket}:{name}": value for bucket, value in pairs}
        found |= {f"d:{name}": len(own) for name, own in self.digests.items()}
        return found | {f"h:{name}": value for name, value in self.estimates.items()}

    def take(self, other: Counts) -> None:
        """Become a copy of `other`."""
        self.version = other.version
        self.sums, self.least, self.most = other.sums.copy(), other.least.copy(), other.most.copy()
        self.series = {name: series.copy() for name, series in other.series.items()}
        self.digests = {name: own.copy() for name, own in other.digests.items()}
        self.estimates = other.estimates.copy()
        self.size = other.size

    def apply(self, changes: Changes, counted: Sequence[int]) -> None:
        """Do what a commit did.

        Args:
            changes: what it did.
            counted: for each name whose members it counted how many there are now; negative where
                that is an estimate.
        """
        if changes.rare is not None:
            self._apply_rare(changes.rare, counted)
        if changes.series:
            held = self.series
            for name, added in changes.series.items():
                series = held.get(name)
                if series is None:
                    held[name] = added.copy()
                    self.size += _NUMBER_BYTES * len(added.buckets)
                else:
                    self.size += _NUMBER_BYTES * series.take(added)
        if changes.sums:
            for name, number in changes.sums.items():
                before = self.sums.get(name)
                if before is None:
                    self.size += _NUMBER_BYTES
                    self.sums[name] = number
                else:
                    self.sums[name] = before + number

    def _apply_rare(self, rare: RareChanges, counted: Sequence[int]) -> None:
        for name, forgotten in rare.forgotten.items():
            self._forget(name, forgotten)
        for name, number in rare.least.items():
            self.least[name] = min(self.least.get(name, number), number)
        for name, number in rare.most.items():
            self.most[name] = max(self.most.get(name, number), number)
        if rare.members:
            for (name, members), count in zip(rare.members.items(), counted, strict=True):
                self._count_members(name, members, count)
            self._measure()

    def _load_field(self, field: str, value: bytes, buckets: dict[str, dict[int, Number]]) -> None:
        kind, _, name = field.partition(":")
        if field == "v":
            int(value)
        elif kind == "b":
            bucket, _, name = name.partition(":")
            buckets.setdefault(name, {})[int(bucket)] = _number(value)
        elif kind == "d":
            starts = range(0, len(value), DIGEST_BYTES)
            self.digests[name] = {value[at : at + DIGEST_BYTES] for at in starts}
        elif kind == "h":
            self.estimates[name] = int(value)
        elif kind in ("n", "min", "max"):
            {"n": self.sums, "min": self.least, "max": self.most}[kind][name] = _number(value)
        else:
            raise ValueError(kind)

    def _forget(self, name: str, buckets: set[int]) -> None:
        series = self.series.get(name)
        if series is None:
            return
        self.size -= series.drop(buckets) * _NUMBER_BYTES
        if not series.buckets:
            del self.series[name]

    def _count_members(self, name: str, members: Mapping[bytes, None], count: int) -> None:
        if count < 0:
            self.digests.pop(name, None)
            self.estimates[name] = -count
        else:
            self.digests.setdefault(name, set()).update(members)

    def _measure(self) -> None:
        numbers = len(self.sums) + len(self.least) + len(self.most) + len(self.estimates)
        numbers += sum([len(series.buckets) for series in self.series.values()])
        self.size = _NUMBER_BYTES * numbers + 10 * sum(map(len, self.digests.values()))


def _number(text: bytes) -> Number:
    return int(text) if text.lstrip(b"-").isdigit() else float(text)
