"""How many different ones: an exact list while they are few, HyperLogLog beyond."""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b
from math import inf, log, sqrt
from typing import Any, ClassVar, Final

import msgspec

__all__ = ["Distinct"]

_ALPHA: Final = 1 / (2 * log(2))


class Distinct(msgspec.Struct, omit_defaults=True):
    """A count of different members.

    Exact up to `exact` members. Beyond, a dense HyperLogLog of 2**precision registers with Ertl's
    estimator (arXiv 1702.01284): the relative standard error is 1.04 / sqrt(2**precision), 1.62 %
    for 12 and 0.81 % for 14, whatever the count. Order and repetition make no difference, and
    two counts merge into that of the union.

    Class attributes:
        exact: most members held by name.
        precision: of the sketch; also the logarithm of its bytes. Change it for new names only:
            sketches of different precision do not merge.

    Attributes:
        members: ascending, while they are few.
        registers: the sketch (base64 in JSON, a byte each) once there are more.
    """

    exact: ClassVar[int] = 100
    precision: ClassVar[int] = 12

    members: list[str] = []
    registers: bytearray | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.exact < 0 or not 4 <= cls.precision <= 16:
            raise TypeError(f"{cls.__name__}: exact >= 0 and precision from 4 to 16, please")

    @property
    def count(self) -> int:
        """How many different members there were, rounded to a whole number if estimated."""
        return len(self.members) if self.registers is None else round(_estimate(self.registers))

    def add(self, member: str) -> None:
        """Count a member; nothing happens if it was counted before."""
        if self.registers is not None:
            _register(self.registers, member)
            return
        at = bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            return
        self.members.insert(at, member)
        if len(self.members) > self.exact:
            self._sketch()

    def merge(self, other: Distinct) -> None:
        """Count all that `other` has counted.

        Raises:
            ValueError: both are sketches, of different precision.
        """
        for member in other.members:
            self.add(member)
        if other.registers is None:
            return
        if self.registers is None:
            # The other's size, whatever this class says now: that is what can be merged.
            members, self.members = self.members, []
            self.registers = bytearray(other.registers)
            for member in members:
                _register(self.registers, member)
        elif len(self.registers) != len(other.registers):
            raise ValueError("sketches of different precision cannot be merged")
        else:
            self.registers[:] = bytes(map(max, self.registers, other.registers))

    def _sketch(self) -> None:
        self.registers = bytearray(1 << self.precision)
        for member in self.members:
            _register(self.registers, member)
        self.members = []


def _register(registers: bytearray, member: str) -> None:
    """Note the member's leading zeros in the register that its hash chooses."""
    digest = int.from_bytes(blake2b(member.encode(), digest_size=8).digest(), "big")
    index = digest & (len(registers) - 1)
    bits = 64 - (len(registers).bit_length() - 1)
    rank = bits - (digest >> (64 - bits)).bit_length() + 1
    if rank > registers[index]:
        registers[index] = rank


def _estimate(registers: bytearray) -> float:
    """Return Ertl's improved estimate, which needs no correction tables at either end."""
    size = len(registers)
    bits = 64 - (size.bit_length() - 1)
    total = size * _tau(1 - registers.count(bits + 1) / size)
    for rank in range(bits, 0, -1):
        total = (total + registers.count(rank)) / 2
    total += size * _sigma(registers.count(0) / size)
    return _ALPHA * size * size / total


def _sigma(x: float) -> float:
    if x == 1:
        return inf
    total, before, weight = x, -1.0, 1.0
    while total != before:
        before = total
        x *= x
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    total, before, weight = 1 - x, -1.0, 1.0
    while total != before:
        before = total
        x = sqrt(x)
        weight /= 2
        total -= (1 - x) ** 2 * weight
    return total / 3
