"""What a batch does to one counter, until its commit does it to whatever is stored then."""

from __future__ import annotations

from typing import Final

from streamproc.state.series import Series
from streamproc.windows.numbers import Number

__all__ = ["DIGEST_BYTES", "Changes", "RareChanges"]

DIGEST_BYTES: Final = 8
"""What stands for a member among those of one counter."""


class RareChanges:
    """What is not added; it comes before what is.

    Attributes:
        forgotten: buckets to drop, by name.
        least, most: numbers of which to keep the least or the greatest, by name.
        members: digests of members to count, by name, in their order.
    """

    __slots__ = ("forgotten", "least", "members", "most")

    def __init__(self) -> None:
        self.forgotten: dict[str, set[int]] = {}
        self.least: dict[str, Number] = {}
        self.most: dict[str, Number] = {}
        self.members: dict[str, dict[bytes, None]] = {}

    def copy(self) -> RareChanges:
        """Return one that changes independently."""
        copy = RareChanges()
        copy.forgotten = {name: own.copy() for name, own in self.forgotten.items()}
        copy.least, copy.most = self.least.copy(), self.most.copy()
        copy.members = {name: own.copy() for name, own in self.members.items()}
        return copy

    def wire(self) -> list[tuple[str, str, str]]:
        """Return kind, field and operand of each change, as commit.lua takes them."""
        told: list[tuple[str, str, str]] = []
        for name, buckets in self.forgotten.items():
            told += [("forget", f"b:{bucket}:{name}", "") for bucket in sorted(buckets)]
        for kind, table in (("min", self.least), ("max", self.most)):
            told += [(kind, f"{kind}:{name}", repr(number)) for name, number in table.items()]
        return told + [("distinct", f"d:{name}", "") for name in self.members]


class Changes:
    """Changes to one counter; a name is for one use.

    Most batches do one thing to a counter, if any: what holds it is made when there is something.

    Attributes:
        series: numbers to add to buckets, by name.
        sums: numbers to add, by name.
        rare: all else.
    """

    __slots__ = ("rare", "series", "sums")

    def __init__(self) -> None:
        self.series: dict[str, Series] | None = None
        self.sums: dict[str, Number] | None = None
        self.rare: RareChanges | None = None

    def copy(self) -> Changes:
        """Return one that changes independently."""
        copy = Changes()
        if self.series:
            copy.series = {name: series.copy() for name, series in self.series.items()}
        copy.sums = self.sums and self.sums.copy()
        copy.rare = self.rare and self.rare.copy()
        return copy

    def rarely(self) -> RareChanges:
        """Return what is not added, to put something there."""
        rare = self.rare
        if rare is None:
            rare = self.rare = RareChanges()
        return rare

    def added(self) -> list[str]:
        """Return what is added as commit.lua takes it: a field, its operand, a field...

        Operands are text, since the script's own numbers are doubles.
        """
        told: list[str] = []
        if self.series:
            for name, series in self.series.items():
                for bucket, number in zip(series.buckets, series.numbers, strict=True):
                    told += (f"b:{bucket}:{name}", repr(number))
        if self.sums:
            for name, number in self.sums.items():
                told += (f"n:{name}", repr(number))
        return told
