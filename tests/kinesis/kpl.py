"""Makes KPL aggregates byte by byte, without the runtime that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5
from typing import NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"


class User(NamedTuple):
    """A user record to be packed."""

    key: str
    data: bytes
    hash_key: int | None = None


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def text(tag: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return bytes([tag << 3 | 2]) + varint(len(value)) + value


def message(users: Sequence[User]) -> bytes:
    """Return the protobuf of `AggregatedRecord`; keys are listed once, in order of appearance."""
    keys = list(dict.fromkeys(user.key for user in users))
    hashes = list(dict.fromkeys(str(u.hash_key) for u in users if u.hash_key is not None))
    out = b"".join(text(1, key.encode()) for key in keys)
    out += b"".join(text(2, key.encode()) for key in hashes)
    for user in users:
        record = b"\x08" + varint(keys.index(user.key))
        if user.hash_key is not None:
            record += b"\x10" + varint(hashes.index(str(user.hash_key)))
        out += text(3, record + text(3, user.data))
    return out


def sealed(body: bytes) -> bytes:
    """Return a message between magic and digest."""
    return MAGIC + body + md5(body).digest()


def aggregate(users: Sequence[User]) -> bytes:
    """Return the data of a record in which the KPL packed `users`."""
    return sealed(message(users))


def hash_of(key: str) -> int:
    """Return the hash key of a partition key."""
    return int.from_bytes(md5(key.encode()).digest())
