"""Commutative counters: values that many shards change at once, without ever conflicting.

A batch buffers what its handlers add, and the commit applies it to whatever is stored then. What
handlers read is the worker's copy as of the batch's check, plus what the batch has done so far.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from streamproc.state.changes import DIGEST_BYTES, Changes, RareChanges
from streamproc.state.counts import Counts
from streamproc.state.series import Series
from streamproc.windows.numbers import Number, require_number

__all__ = ["EXACT_MEMBERS", "Counter", "CounterCell"]

EXACT_MEMBERS: Final = 128
"""Different members that are counted exactly; beyond, Redis's HyperLogLog estimates (0.81 %)."""

_LARGEST_INT: Final = 2**53


class Counter:
    """The counters of one key, as handlers see them: named numbers and counts of different members.

    Changes take effect with the batch, whatever other shards do to the same key meanwhile: totals
    are exact, and no commit is ever refused for them. What is read is as of the beginning of the
    batch, plus the batch's own changes: exact while one shard changes the key, and behind by what
    others have committed since otherwise.

    A name is for one use: adding, least, greatest, or distinct. Ints stay exact up to 2**53;
    floats are rounded as sums of floats are, in the order of the commits.
    """

    __slots__ = ("_changes", "_stored")

    def __init__(self, stored: Counts, changes: Changes) -> None:
        self._stored = stored
        self._changes = changes

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
        changes, stored = self._changes, self._stored
        if bucket is None:
            sums = changes.sums
            if sums is None:
                sums = changes.sums = {}
            added = sums.get(name, 0)
            _require_exact(name, stored.sums.get(name, 0) + added, number)
            sums[name] = added + number
            return
        if bucket.__class__ is not int:
            raise TypeError(f"a bucket is an int, not {bucket!r}")
        before: Number = 0
        held = stored.series.get(name)
        if held is not None and bucket <= held.buckets[-1] and not self._is_forgotten(name, bucket):
            before = held.number(bucket)
        series = changes.series
        if series is None:
            series = changes.series = {}
        own = series.get(name)
        if own is None:
            if before:
                _require_exact(name, before, number)
            series[name] = Series([bucket], [number])
        else:
            _require_exact(name, before + own.number(bucket), number)
            own.add(bucket, number)

    def min(self, name: str, number: Number) -> None:
        """Keep the least of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        least = self._changes.rarely().least
        least[name] = min(least.get(name, number), number)

    def max(self, name: str, number: Number) -> None:
        """Keep the greatest of all numbers given; see `add` for errors."""
        _require_comparable(name, number)
        most = self._changes.rarely().most
        most[name] = max(most.get(name, number), number)

    def distinct(self, name: str, member: str) -> None:
        """Count a member, unless it was counted before."""
        _require_name(name)
        digest = blake2b(member.encode(), digest_size=DIGEST_BYTES).digest()
        if digest not in self._stored.digests.get(name, ()):
            self._changes.rarely().members.setdefault(name, {})[digest] = None

    def forget(self, name: str, *, before: int) -> None:
        """Drop the buckets of a name that are below `before`, as far as they are known here."""
        changes = self._changes
        held = self._stored.series.get(name)
        if held is not None and held.buckets[0] < before:
            gone = held.buckets[: bisect_left(held.buckets, before)]
            changes.rarely().forgotten.setdefault(name, set()).update(gone)
        series = changes.series or {}
        own = series.get(name)
        if own is not None and own.buckets[0] < before:
            own.drop({bucket for bucket in own.buckets if bucket < before})
            if not own.buckets:
                del series[name]

    def __contains__(self, name: str) -> bool:
        """Whether there is, or was in this batch, anything in buckets of a name."""
        series = self._changes.series
        return name in self._stored.series or (series is not None and name in series)

    def value(self, name: str, default: Number = 0) -> Number:
        """Return the sum, the least or the greatest of a name; `default` if there is none yet."""
        stored, changes = self._stored, self._changes
        sums = changes.sums or {}
        if name in stored.sums or name in sums:
            return stored.sums.get(name, 0) + sums.get(name, 0)
        rare = changes.rare or _NOTHING_RARE
        for table, own, choose in ((stored.least, rare.least, min), (stored.most, rare.most, max)):
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
        rare = self._changes.rare or _NOTHING_RARE
        return len(stored.union(rare.members.get(name, ())))

    def buckets(self, name: str) -> Mapping[int, Number]:
        """Return a copy of the buckets of a name, in order."""
        changes = self._changes
        held, own = self._stored.series.get(name), (changes.series or {}).get(name)
        found: dict[int, Number] = {}
        if held is not None:
            found = dict(zip(held.buckets, held.numbers, strict=True))
        for bucket in (changes.rare or _NOTHING_RARE).forgotten.get(name, ()):
            found.pop(bucket, None)
        if own is not None:
            for bucket, number in zip(own.buckets, own.numbers, strict=True):
                found[bucket] = found.get(bucket, 0) + number
        return found

    def total(self, name: str, *, first: int, last: int) -> Number:
        """Return the sum of a name's buckets from `first` to `last`, both included.

        The same as adding them up, in the time that it takes to find the two ends.
        """
        return self.totals(name, firsts=(first,), last=last)[0]

    def totals(self, name: str, *, firsts: Sequence[int], last: int) -> Sequence[Number]:
        """Return the `total` from each of `firsts` to `last`: of windows that end together."""
        changes = self._changes
        if changes.rare is not None and name in changes.rare.forgotten:
            left = self.buckets(name).items()
            return [sum([n for at, n in left if first <= at <= last]) for first in firsts]
        held, own = self._stored.series.get(name), None
        if changes.series is not None:
            own = changes.series.get(name)
            if own is not None and own.buckets[0] > last:
                own = None
        if held is None:
            return [0] * len(firsts) if own is None else own.totals(firsts, last)
        totals = held.totals(firsts, last)
        if own is None:
            return totals
        return [a + b for a, b in zip(totals, own.totals(firsts, last), strict=True)]

    def _is_forgotten(self, name: str, bucket: int) -> bool:
        rare = self._changes.rare
        return rare is not None and bucket in rare.forgotten.get(name, ())


_NOTHING_RARE: Final = RareChanges()


def _require_exact(name: str, before: Number, number: Number) -> None:
    """Make sure that what comes of adding `number` to `before` is exact, if it is an int.

    Raises:
        OverflowError: it would leave the range in which ints are.
    """
    total = before + number
    if total.__class__ is int and not -_LARGEST_INT <= total <= _LARGEST_INT:
        raise OverflowError(f"counter {name}: {before} + {number} is beyond 2**53")


class CounterCell:
    """One counter key in one batch: the worker's copy of it, and what the batch does to it.

    `sketch_prefix` begins the keys of its HyperLogLogs; a name follows.
    """

    __slots__ = ("_changes", "_view", "key", "sketch_prefix", "stored", "ttl_ms")

    def __init__(self, stored: Counts, sketch_prefix: str, ttl_ms: int) -> None:
        self.key = stored.key
        self.stored = stored
        self.sketch_prefix = sketch_prefix
        self.ttl_ms = ttl_ms
        self._changes: Changes | None = None
        self._view: Counter | None = None

    def view(self) -> Counter:
        """Return what a handler sees; after a `reset` or `restore` it changes nothing any more."""
        view = self._view
        if view is None:
            changes = self._changes
            if changes is None:
                changes = self._changes = Changes()
            view = self._view = Counter(self.stored, changes)
        return view

    def take_changes(self) -> Changes | None:
        """Return what a commit is to do, if anything; what handlers do after that goes nowhere."""
        changes = self._changes
        if changes is None:
            return None
        if self._view is not None:
            self._view._changes = Changes()
        self._changes = self._view = None
        return changes if changes.series or changes.sums or changes.rare is not None else None

    def committed(
        self, changes: Changes, before: int, version: int, counted: Sequence[int]
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

    def sketches(self, changes: Changes) -> list[str]:
        """Return the keys of the sketches of counted members, then of those to be kept alive."""
        members, estimates = (changes.rare or _NOTHING_RARE).members, self.stored.estimates
        names = list(members)
        if self.ttl_ms and estimates:
            names += sorted(estimates.keys() - members.keys())
        prefix = self.sketch_prefix
        return [prefix + name.replace("%", "%25").replace("|", "%7C") for name in names]

    def reset(self) -> None:
        """Forget what handlers did."""
        self._changes = self._view = None

    def snapshot(self) -> Changes | None:
        """Return a copy of what was done for `restore`."""
        return None if self._changes is None else self._changes.copy()

    def restore(self, snapshot: Changes | None) -> None:
        """Return to a snapshot."""
        self._changes = None if snapshot is None else snapshot.copy()
        self._view = None


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
