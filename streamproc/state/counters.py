"""Commutative counters: values that many shards change at once, without ever conflicting.

A batch buffers what its handlers add, and the commit applies it to whatever is stored then. What
handlers read is the worker's copy as of the batch's check, plus what the batch has done so far.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from types import MappingProxyType
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
_NUMBER_BYTES: Final = 30


Kind = Literal["forget", "add", "min", "max", "distinct", "touch"]

Change = tuple[Kind, str, int | None, Any]
"""One thing that a commit does to a counter: kind, name, bucket if any, operand.

The operand is the number to add, or of which to keep the least or greatest; the digests of members,
joined; None to forget a bucket, or to keep a sketch alive as long as its counter. Those of one
commit apply in their order. A plain tuple: one is made for nearly every event.
"""

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


class _Running:
    """A name's buckets in order with their running sums, so that any range is a difference of two.

    Attributes:
        buckets: in order.
        sums: before each of them, and after the last; None where numbers are floats, which are
            added up anew each time: a difference of their sums would be another number.
        numbers: of each bucket, in that case.
    """

    __slots__ = ("buckets", "numbers", "sums")

    def __init__(self, held: Mapping[int, Number]) -> None:
        self.buckets = sorted(held)
        numbers = [held[bucket] for bucket in self.buckets]
        is_exact = all(number.__class__ is int for number in numbers)
        self.sums = list(accumulate(numbers, initial=0)) if is_exact else None
        self.numbers = [] if is_exact else numbers

    def append(self, bucket: int, number: Number) -> bool:
        """Take a bucket in that comes after all others; False where it does not, or is a float."""
        if self.sums is None or number.__class__ is not int or bucket <= self.buckets[-1]:
            return False
        self.buckets.append(bucket)
        self.sums.append(self.sums[-1] + number)
        return True


class Counts:
    """What Redis holds of one counter key, as of `version`; 0 and empty for one that is not there.

    Shared by all batches of a worker, and changed only by what the store says. `size` is about
    how many bytes it would take in JSON, `held_bytes` what the cache counts it for.
    """

    __slots__ = ("_running", "buckets", "digests", "estimates", "held_bytes", "key", "least",
                 "most", "size", "sums", "version")  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.size = 0
        self.held_bytes = 0
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
        self._running: dict[str, _Running] = {}
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
        self._measure()

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
        self._running = {}
        self.size = other.size

    def running(self, name: str) -> _Running | None:
        """Return a name's buckets with their running sums; None if it has none."""
        running = self._running.get(name)
        if running is None:
            held = self.buckets.get(name)
            if held:
                running = self._running[name] = _Running(held)
        return running

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

    def apply(self, changes: Sequence[Change], counted: Sequence[int]) -> None:
        """Do what a commit did.

        Args:
            changes: what it did.
            counted: for each "distinct" among them how many members there are now; negative where
                that is an estimate.
        """
        counts = iter(counted)
        for kind, name, bucket, operand in changes:
            if kind == "add":  # the usual one first
                table: dict[Any, Number] = self.sums
                key: Any = name
                if bucket is not None:
                    table, key = self.buckets.setdefault(name, {}), bucket
                    running = self._running.get(name)
                    if running is not None and not running.append(key, operand):
                        del self._running[name]
                held = table.get(key)
                if held is None:
                    self.size += _NUMBER_BYTES
                    table[key] = operand
                else:
                    table[key] = held + operand
            elif kind == "forget":
                own = self.buckets.get(name, {})
                self._running.pop(name, None)
                if own.pop(bucket, None) is not None:  # type: ignore[arg-type]  # it has one
                    self.size -= _NUMBER_BYTES
                if not own:
                    self.buckets.pop(name, None)
            elif kind == "min":
                self.least[name] = min(self.least.get(name, operand), operand)
            elif kind == "max":
                self.most[name] = max(self.most.get(name, operand), operand)
            elif kind == "distinct":
                self._apply_distinct(name, operand, next(counts))
                self._measure()

    def _measure(self) -> None:
        numbers = len(self.sums) + len(self.least) + len(self.most) + len(self.estimates)
        numbers += sum(map(len, self.buckets.values()))
        self.size = _NUMBER_BYTES * numbers + 10 * sum(map(len, self.digests.values()))

    def _apply_distinct(self, name: str, digests: bytes, count: int) -> None:
        if count < 0:
            self.digests.pop(name, None)
            self.estimates[name] = -count
        else:
            starts = range(0, len(digests), _DIGEST_BYTES)
            members = {digests[at : at + _DIGEST_BYTES] for at in starts}
            self.digests.setdefault(name, set()).update(members)


_NOTHING: Final[Any] = MappingProxyType({})


class _Pending:
    """What a batch has done to one counter so far.

    Most batches do one thing to a counter, if any: a table is made when something is put in it.
    """

    sums: dict[str, Number] = _NOTHING
    buckets: dict[str, dict[int, Number]] = _NOTHING
    forgotten: dict[str, set[int]] = _NOTHING
    least: dict[str, Number] = _NOTHING
    most: dict[str, Number] = _NOTHING
    members: dict[str, dict[bytes, None]] = _NOTHING

    def copy(self) -> _Pending:
        copy = _Pending()
        for name, table in self.__dict__.items():
            is_nested = name in ("buckets", "forgotten", "members")
            own = {key: held.copy() for key, held in table.items()} if is_nested else table.copy()
            setattr(copy, name, own)
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
        if not (name.__class__ is str and name and name.isascii()):
            _require_name(name)
        if not (number.__class__ is int and -_LARGEST_INT <= number <= _LARGEST_INT):
            require_number("number", number)
        pending, stored = self._pending, self._stored
        if bucket is None:
            pending.sums = table = pending.sums or {}
            _add(table, name, number, stored.sums.get(name, 0), name)
            return
        if bucket.__class__ is not int:
            raise TypeError(f"a bucket is an int, not {bucket!r}")
        own = pending.buckets.get(name)
        if own is None:
            pending.buckets = pending.buckets or {}
            own = pending.buckets[name] = {}
        before = stored.buckets.get(name, _NOTHING).get(bucket, 0)
        if pending.forgotten and bucket in pending.forgotten.get(name, ()):
            before = 0
        _add(own, bucket, number, before, name)

    def min(self, name: str, number: Number) -> None:
        """Keep the least of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        least = self._pending.least = self._pending.least or {}
        least[name] = min(least.get(name, number), number)

    def max(self, name: str, number: Number) -> None:
        """Keep the greatest of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        most = self._pending.most = self._pending.most or {}
        most[name] = max(most.get(name, number), number)

    def distinct(self, name: str, member: str) -> None:
        """Count a member, unless it was counted before."""
        _require_name(name)
        digest = blake2b(member.encode(), digest_size=_DIGEST_BYTES).digest()
        if digest not in self._stored.digests.get(name, ()):
            members = self._pending.members = self._pending.members or {}
            members.setdefault(name, {})[digest] = None

    def forget(self, name: str, *, before: int) -> None:
        """Drop the buckets of a name that are below `before`, as far as they are known here."""
        pending = self._pending
        running = self._stored.running(name)
        if running is not None and running.buckets[0] < before:
            pending.forgotten = pending.forgotten or {}
            gone = running.buckets[: bisect_left(running.buckets, before)]
            pending.forgotten.setdefault(name, set()).update(gone)
        own = pending.buckets.get(name, _NOTHING)
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

    def total(self, name: str, *, first: int, last: int) -> Number:
        """Return the sum of a name's buckets from `first` to `last`, both included.

        The same as adding them up, in the time that it takes to find the two ends.
        """
        pending = self._pending
        if pending.forgotten and name in pending.forgotten:
            return sum([n for at, n in self.buckets(name).items() if first <= at <= last])
        total: Number = 0
        running = self._stored._running.get(name) or self._stored.running(name)
        if running is not None:
            low = bisect_left(running.buckets, first)
            high = bisect_right(running.buckets, last, low)
            if low < high:
                sums = running.sums
                total = sum(running.numbers[low:high]) if sums is None else sums[high] - sums[low]
        if name in pending.buckets:
            for bucket, number in pending.buckets[name].items():
                if first <= bucket <= last:
                    total += number
        return total

    def _sum(self, name: str) -> Number:
        return self._stored.sums.get(name, 0) + self._pending.sums.get(name, 0)


def _add(table: dict[Any, Number], key: Any, number: Number, stored: Number, name: str) -> None:
    """Add to what a batch has added so far to something that is `stored`.

    Raises:
        OverflowError: the sum of both would leave the range in which ints are exact.
    """
    after = table.get(key, 0) + number
    total = stored + after
    if total.__class__ is int and not -_LARGEST_INT <= total <= _LARGEST_INT:
        raise OverflowError(f"counter {name}: {total - number} + {number} is beyond 2**53")
    table[key] = after


class CounterCell:
    """One counter key in one batch: the worker's copy of it, and what the batch does to it.

    `sketch_prefix` begins the keys of its HyperLogLogs; a name follows.
    """

    __slots__ = ("_pending", "_view", "key", "sketch_prefix", "stored", "ttl_ms")

    def __init__(self, stored: Counts, sketch_prefix: str, ttl_ms: int) -> None:
        self.key = stored.key
        self.stored = stored
        self.sketch_prefix = sketch_prefix
        self.ttl_ms = ttl_ms
        self.reset()

    def view(self) -> Counter:
        """Return what a handler sees; after a `reset` or `restore` it changes nothing any more."""
        return self._view

    def changes(self) -> tuple[Change, ...]:
        """Return what a commit is to do; nothing if handlers only looked."""
        pending = self._pending
        found: list[Change] = []
        if pending.forgotten:
            found += [
                ("forget", name, bucket, None)
                for name, own in pending.forgotten.items()
                for bucket in sorted(own)
            ]
        if pending.sums:
            found += [("add", name, None, number) for name, number in pending.sums.items()]
        for name, numbers in pending.buckets.items():
            for bucket, number in numbers.items():
                found.append(("add", name, bucket, number))
        if pending.least:
            found += [("min", name, None, number) for name, number in pending.least.items()]
        if pending.most:
            found += [("max", name, None, number) for name, number in pending.most.items()]
        if pending.members:
            found += [
                ("distinct", name, None, b"".join(own)) for name, own in pending.members.items()
            ]
        if found and self.ttl_ms and self.stored.estimates:
            others = self.stored.estimates.keys() - pending.members.keys()
            found += [("touch", name, None, None) for name in sorted(others)]
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
        self._view = Counter(self.stored, self._pending)

    def snapshot(self) -> _Pending:
        """Return a copy of what was done for `restore`."""
        return self._pending.copy()

    def restore(self, snapshot: _Pending) -> None:
        """Return to a snapshot."""
        self._pending = snapshot.copy()
        self._view = Counter(self.stored, self._pending)


def wire_arguments(
    cell: CounterCell, changes: Sequence[Change]
) -> tuple[list[str], list[str], list[bytes]]:
    """Return the changes as commit.lua takes them.

    Returns:
        The keys of sketches; kind, field and operand of each change; the digests of members.
    """
    keys: list[str] = []
    told: list[str] = []
    digests: list[bytes] = []
    for kind, name, bucket, operand in changes:
        field = f"{_PREFIXES[kind]}:{name}" if bucket is None else f"b:{bucket}:{name}"
        if kind in ("distinct", "touch"):
            keys.append(cell.sketch_prefix + name.replace("%", "%25").replace("|", "%7C"))
            if kind == "distinct":
                digests.append(operand)
            operand = None
        # A number as text, since the script's own numbers are doubles.
        told += (kind, field, "" if operand is None else repr(operand))
    return keys, told, digests


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
