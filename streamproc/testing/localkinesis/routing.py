"""Partition keys to shards: MD5 of the key over the 128-bit hash range ("PutRecord" page)."""

from __future__ import annotations

import hashlib
import re

HASH_SPACE = 1 << 128
MAX_HASH_KEY = HASH_SPACE - 1

# Constraint of the HashKey type in the API model: no leading zeros.
_HASH_KEY = re.compile(r"0|[1-9][0-9]{0,38}")


def hash_partition_key(key: str) -> int:
    """Hash a partition key into 0 .. 2^128-1."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")


def parse_hash_key(text: str) -> int | None:
    """Read a decimal hash key; None when malformed or out of range."""
    if not _HASH_KEY.fullmatch(text):
        return None
    value = int(text)
    return value if value <= MAX_HASH_KEY else None


def uniform_bounds(count: int) -> list[tuple[int, int]]:
    """Divide the hash range evenly into `count` (first, last) pairs, the last taking the rest."""
    width = HASH_SPACE // count
    starts = [i * width for i in range(count)]
    ends = [start - 1 for start in starts[1:]] + [MAX_HASH_KEY]
    return list(zip(starts, ends, strict=True))
