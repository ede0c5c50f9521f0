"""Commutative counters: values that many shards change at once, without ever conflicting.

A batch buffers what its handlers add, and the commit applies it to whatever is stored then. What
handlers read is the worker's copy as of the batch's check, plus what the batch has done so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from streamproc.errors import StateStoreError
from streamproc.windows.numbers import Number, require_number

__all__ = [
    "EXACT_MEMBERS",
    "Change",
    "Counter",
    "CounterCell",
    "CounterValues",
    "Counts",
    "wire_arguments",
]

EXACT_MEMBERS: Final = 128
"""Different members that are counted exactly; beyond, Redis's HyperLogLog estimates (0.81 %)."""

_DIGEST_BYTES: Final = 8
_LARGEST_INT: Final = 2**53


class Change(msgspec.Struct, frozen=True, gc=False):
    """One thing that a commit does to a counter; those of one commit apply in their order.

    `operand` is the number to add, or of which to keep the least or greatest; the digests of
    members, joined; None to forget a bucket, or to keep a sketch alive as long as its counter.
    """

    kind: Literal["forget", "add", "min", "max", "distinct", "touch"]
    name: str
    bucket: int | None = None
    operand: Any = None

    @property
    def field(self) -> str:
        """The hash field that it is about."""
        if self.bucket is not None:
            return f"b:{self.bucket}:{self.name}"
        return f"{_PREFIXES[self.kind]}:{self.name}"


_PREFIXES: Final = {"add": "n", "min": "min", "max": "max", "distinct": "d", "touch": "h"}


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

    Shared by all batches of a worker, and changed only by what the store says.
    """

    __slots__ = ("buckets", "digests", "estimates", "key", "least", "most", "sums", "version")

    def __init__(self, key: str) -> None:
        self.key = key
        self.load({})

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        """Take over the fields of the stored hash.

        Raises:
            StateStoreError: a field is none that counters have, or holds no number.
        """
        self.sums: dict[str, Number] = {}
        self.buckets: dict[str, dict[int, Number]] = {}
        self.least: dict[str, Number] = {}
        self.most: dict[str, Number] = {}
        self.digests: dict[str, set[bytes]] = {}
        self.estimates: dict[str, int] = {}
        self.version = 0
        for field, value in fields.items():
            try:
                self._load_field(field.decode(), value)
            except ValueError as error:
                raise StateStoreError(
                    f"the counter at {self.key}: no counter writes {value[:40]!r} into its field "
                    f"{field!r}; mend it, or delete the key"
                ) from error
        self.version = int(fields.get(b"v", 0))

    def values(self) -> CounterValues:
        """Return the numbers by name."""
        numbers = {**self.sums, **self.least, **self.most}
        buckets = {name: dict(sorted(own.items())) for name, own in sorted(self.buckets.items())}
        members = {name: len(own) for name, own in self.digests.items()} | self.estimates
        return CounterValues(dict(sorted(numbers.items())), buckets, dict(sorted(members.items())))

    def to_fields(self) -> dict[str, Any]:
        """Return the values by the names of their hash fields, members as their number."""
        found: dict[str, Any] = {"v": self.version}
        for prefix, table in (("n", self.sums), ("min", self.least), ("max", self.most)):
            found |= {f"{prefix}:{name}": value for name, value in table.items()}
        for name, own in self.buckets.items():
            found |= {f"b:{bucket}:{name}": value for bucket, value in own.items()}
        found |= {f"d:{name}": len(own) for name, own in self.digests.items()}
        return found | {f"h:{name}": value for name, value in self.estimates.items()}

    def take(self, other: Counts) -> None:
        """Become a copy of `other`."""
        self.version = other.version
        self.sums, self.least, self.most = other.sums.copy(), other.least.copy(), other.most.copy()
        self.buckets = {name: own.copy() for name, own in other.buckets.items()}
        self.digests = {name: own.copy() for name, own in other.digests.items()}
        self.estimates = other.estimates.copy()

    def _load_field(self, field: str, value: bytes) -> None:
        kind, _, name = field.partition(":")
        if field == "v":
            int(value)
        elif kind == "b":
            bucket, _, name = name.partition(":")
            self.buckets.setdefault(name, {})[int(bucket)] = _number(value)
        elif kind == "d":
            starts = range(0, len(value), _DIGEST_BYTES)
            self.digests[name] = {value[at : at + _DIGEST_BYTES] for at in starts}
        elif kind == "h":
            self.estimates[name] = int(value)
        elif kind in ("n", "min", "max"):
            {"n": self.sums, "min": self.least, "max": self.most}[kind][name] = _number(value)
        else:
            raise ValueError(kind)

    @property
    def size(self) -> int:
        """About how many bytes it would take in JSON."""
        numbers = len(self.sums) + len(self.least) + len(self.most) + len(self.estimates)
        buckets = sum(map(len, self.buckets.values()))
        return 30 * (numbers + buckets) + 10 * sum(map(len, self.digests.values()))

    def apply(self, changes: Sequence[Change], counted: Sequence[int]) -> None:
        """Do what a commit did.

        Args:
            changes: what it did.
            counted: for each "distinct" among them how many members there are now; negative where
                that is an estimate.
        """
        counts = iter(counted)
        for change in changes:
            name, operand = change.name, change.operand
            if change.kind == "add":
                table: dict[Any, Number] = self.sums
                key: Any = name
                if change.bucket is not None:
                    table, key = self.buckets.setdefault(name, {}), change.bucket
                table[key] = table.get(key, 0) + operand
            elif change.kind == "forget":
                own = self.buckets.get(name, {})
                own.pop(change.bucket, None)  # type: ignore[arg-type]  # forgetting names a bucket
                if not own:
                    self.buckets.pop(name, None)
            elif change.kind == "min":
                self.least[name] = min(self.least.get(name, operand), operand)
            elif change.kind == "max":
                self.most[name] = max(self.most.get(name, operand), operand)
            elif change.kind == "distinct":
                self._apply_distinct(name, operand, next(counts))

    def _apply_distinct(self, name: str, digests: bytes, count: int) -> None:
        if count < 0:
            self.digests.pop(name, None)
            self.estimates[name] = -count
        else:
            starts = range(0, len(digests), _DIGEST_BYTES)
            members = {digests[at : at + _DIGEST_BYTES] for at in starts}
            self.digests.setdefault(name, set()).update(members)


class _Pending:
    """What a batch has done to one counter so far."""

    __slots__ = ("buckets", "forgotten", "least", "members", "most", "sums")

    def __init__(self) -> None:
        self.sums: dict[str, Number] = {}
        self.buckets: dict[str, dict[int, Number]] = {}
        self.forgotten: dict[str, set[int]] = {}
        self.least: dict[str, Number] = {}
        self.most: dict[str, Number] = {}
        self.members: dict[str, dict[bytes, None]] = {}

    def copy(self) -> _Pending:
        copy = _Pending()
        copy.sums = self.sums.copy()
        copy.buckets = {name: own.copy() for name, own in self.buckets.items()}
        copy.forgotten = {name: own.copy() for name, own in self.forgotten.items()}
        copy.least = self.least.copy()
        copy.most = self.most.copy()
        copy.members = {name: own.copy() for name, own in self.members.items()}
        return copy


class Counter:
    """The counters of one key, as handlers see them: named numbers and counts of different members.

    Changes take effect with the batch, whatever other shards do to the same key meanwhile: totals
    are exact, and no commit is ever refused for them. What is read is as of the beginning of the
    batch, plus the batch's own changes: exact while one shard changes the key, and behind by what
    others have committed since otherwise.

    A name is for one use: adding, least, greatest, or distinct. Ints stay exact up to 2**53;
    floats are rounded as sums of floats are, in the order of the commits.
    """

    __slots__ = ("_pending", "_stored")

    def __init__(self, stored: Counts, pending: _Pending) -> None:
        self._stored = stored
        self._pending = pending

    def add(self, name: str, number: Number = 1, *, bucket: int | None = None) -> None:
        """Add a number, to a bucket of the name if one is given.

        Raises:
            TypeError: it is no int or float, the name no text, or the bucket no int.
            ValueError: it is not finite, or absurdly large.
            OverflowError: the sum would leave the range in which ints are exact.
        """
        _require_name(name)
        require_number("number", number)
        if bucket is None:
            before, table, key = self._sum(name), self._pending.sums, name
        else:
            if bucket.__class__ is not int:
                raise TypeError(f"a bucket is an int, not {bucket!r}")
            before = self._bucket(name, bucket)
            table = self._pending.buckets.setdefault(name, {})  # type: ignore[assignment]
            key = bucket  # type: ignore[assignment]
        after = before + number
        if after.__class__ is int and not -_LARGEST_INT <= after <= _LARGEST_INT:
            raise OverflowError(f"counter {name}: {before} + {number} is beyond 2**53")
        table[key] = table.get(key, 0) + number

    def min(self, name: str, number: Number) -> None:
        """Keep the least of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        least = self._pending.least
        least[name] = min(least.get(name, number), number)

    def max(self, name: str, number: Number) -> None:
        """Keep the greatest of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        most = self._pending.most
        most[name] = max(most.get(name, number), number)

    def distinct(self, name: str, member: str) -> None:
        """Count a member, unless it was counted before."""
        _require_name(name)
        digest = blake2b(member.encode(), digest_size=_DIGEST_BYTES).digest()
        if digest not in self._stored.digests.get(name, ()):
            self._pending.members.setdefault(name, {})[digest] = None

    def forget(self, name: str, *, before: int) -> None:
        """Drop the buckets of a name that are below `before`, as far as they are known here."""
        stored = self._stored.buckets.get(name, {})
        gone = {bucket for bucket in stored if bucket < before}
        if gone:
            self._pending.forgotten.setdefault(name, set()).update(gone)
        own = self._pending.buckets.get(name, {})
        for bucket in [bucket for bucket in own if bucket < before]:
            del own[bucket]

    def value(self, name: str, default: Number = 0) -> Number:
        """Return the sum, the least or the greatest of a name; `default` if there is none yet."""
        stored, pending = self._stored, self._pending
        if name in stored.sums or name in pending.sums:
            return self._sum(name)
        for table, own, choose in (
            (stored.least, pending.least, min),
            (stored.most, pending.most, max),
        ):
            known = [each[name] for each in (table, own) if name in each]
            if known:
                return choose(known)
        return default

    def count(self, name: str) -> int:
        """Return how many different members a name has: exact up to 128, 0.81 % off beyond.

        Beyond, members of this very batch are not in it yet.
        """
        if name in self._stored.estimates:
            return self._stored.estimates[name]
        stored = self._stored.digests.get(name, set())
        return len(stored.union(self._pending.members.get(name, ())))

    def buckets(self, name: str) -> Mapping[int, Number]:
        """Return a copy of the buckets of a name."""
        found = self._stored.buckets.get(name, {}).copy()
        for bucket in self._pending.forgotten.get(name, ()):
            found.pop(bucket, None)
        for bucket, number in self._pending.buckets.get(name, {}).items():
            found[bucket] = found.get(bucket, 0) + number
        return found

    def _sum(self, name: str) -> Number:
        return self._stored.sums.get(name, 0) + self._pending.sums.get(name, 0)

    def _bucket(self, name: str, bucket: int) -> Number:
        stored = self._stored.buckets.get(name, {}).get(bucket, 0)
        if bucket in self._pending.forgotten.get(name, ()):
            stored = 0
        return stored + self._pending.buckets.get(name, {}).get(bucket, 0)


class CounterCell:
    """One counter key in one batch: the worker's copy of it, and what the batch does to it.

    `sketch_prefix` begins the keys of its HyperLogLogs; a name follows.
    """

    __slots__ = ("_pending", "key", "sketch_prefix", "stored", "ttl_ms")

    def __init__(self, stored: Counts, sketch_prefix: str, ttl_ms: int) -> None:
        self.key = stored.key
        self.stored = stored
        self.sketch_prefix = sketch_prefix
        self.ttl_ms = ttl_ms
        self._pending = _Pending()

    def view(self) -> Counter:
        """Return what a handler sees; after a `reset` or `restore` it changes nothing any more."""
        return Counter(self.stored, self._pending)

    def changes(self) -> tuple[Change, ...]:
        """Return what a commit is to do; nothing if handlers only looked."""
        pending = self._pending
        found = [
            Change("forget", name, bucket)
            for name, own in pending.forgotten.items()
            for bucket in sorted(own)
        ]
        found += [Change("add", name, None, number) for name, number in pending.sums.items()]
        found += [
            Change("add", name, bucket, number)
            for name, own in pending.buckets.items()
            for bucket, number in own.items()
        ]
        found += [Change("min", name, None, number) for name, number in pending.least.items()]
        found += [Change("max", name, None, number) for name, number in pending.most.items()]
        found += [
            Change("distinct", name, None, b"".join(own)) for name, own in pending.members.items()
        ]
        if found and self.ttl_ms:
            others = self.stored.estimates.keys() - pending.members.keys()
            found += [Change("touch", name) for name in sorted(others)]
        return tuple(found)

    def committed(
        self, changes: Sequence[Change], before: int, version: int, counted: Sequence[int]
    ) -> None:
        """Take a commit into the copy, if it is of what the commit found; else it is loaded anew.

        Args:
            changes: what was done.
            before: the stored version that it was done to.
            version: the stored version now.
            counted: see `Counts.apply`.
        """
        if self.stored.version == before:
            self.stored.apply(changes, counted)
            self.stored.version = version

    def reset(self) -> None:
        """Forget what handlers did."""
        self._pending = _Pending()

    def snapshot(self) -> _Pending:
        """Return a copy of what was done for `restore`."""
        return self._pending.copy()

    def restore(self, snapshot: _Pending) -> None:
        """Return to a snapshot."""
        self._pending = snapshot.copy()


def wire_arguments(cell: CounterCell, changes: Sequence[Change]) -> tuple[list[str], list[Any]]:
    """Return the sketch keys and the strings of the changes as commit.lua takes them."""
    keys: list[str] = []
    strings: list[Any] = []
    for change in changes:
        operand = change.operand
        if change.kind in ("distinct", "touch"):
            keys.append(cell.sketch_prefix + change.name.replace("%", "%25").replace("|", "%7C"))
        elif isinstance(operand, float):
            operand = repr(operand)
        strings += (change.kind, change.field, b"" if operand is None else operand)
    return keys, strings


def _number(text: bytes) -> Number:
    return int(text) if text.lstrip(b"-").isdigit() else float(text)


def _require_name(name: str) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a counter's name is a text, not {name!r}")
    if not name.isascii():
        name.encode()


def _require_comparable(name: str, number: Number) -> None:
    _require_name(name)
    require_number("number", number)
    if number.__class__ is int and abs(number) > _LARGEST_INT:
        raise OverflowError(f"counter {name}: {number} is beyond 2**53")
