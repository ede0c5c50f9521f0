"""Sequence numbers: 56 decimal digits that grow along a shard's lineage.

AWS documents them as opaque. This layout gives what consumers rely on: numbers of one shard grow
strictly, a child's first number is above its parents' last, and a number tells which shard it is
from, so that a wrong one is refused as AWS refuses it.

    bits 184-187  constant 2, which makes every number 56 digits long
    bits 148-183  epoch: the shard's creation in seconds, pushed on so that no two are equal
    bits  84-147  counter of the record in its shard, from 1 (0: the shard's starting number)
    bits  68-83   zero
    bits  36-67   index of the shard in its stream
    bits   0-35   zero
"""

from __future__ import annotations

from typing import NamedTuple

_VERSION = 2 << 184
_EPOCH_SHIFT = 148
_COUNTER_SHIFT = 84
_SHARD_SHIFT = 36
_EPOCH_MASK = (1 << 36) - 1
_COUNTER_MASK = (1 << 64) - 1
_SHARD_MASK = (1 << 32) - 1

COUNTER_STEP = 1 << _COUNTER_SHIFT
"""Difference between the numbers of two neighbouring records of a shard."""


class SequenceParts(NamedTuple):
    """What a sequence number says."""

    epoch: int
    counter: int
    shard_index: int


def encode(epoch: int, counter: int, shard_index: int) -> int:
    """Build the sequence number of the `counter`-th record of a shard."""
    return (
        _VERSION
        | (epoch << _EPOCH_SHIFT)
        | (counter << _COUNTER_SHIFT)
        | (shard_index << _SHARD_SHIFT)
    )


def decode(text: str) -> SequenceParts | None:
    """Take a sequence number apart; None when it cannot be one of ours."""
    if not (text.isascii() and text.isdigit()) or len(text) > 129:
        return None
    value = int(text)
    parts = SequenceParts(
        (value >> _EPOCH_SHIFT) & _EPOCH_MASK,
        (value >> _COUNTER_SHIFT) & _COUNTER_MASK,
        (value >> _SHARD_SHIFT) & _SHARD_MASK,
    )
    return parts if encode(*parts) == value else None
