"""Where event ids are marked as seen: in sets by time, or in a key each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import redis.asyncio

from streamproc.state.keys import Keys
from streamproc.state.partitions import claim_setting

__all__ = ["Layout", "Marks", "claim_layout", "marks_of"]

Layout = Literal["sets", "keys"]


class Marks(Protocol):
    """A layout, as dedupe.lua takes it.

    Attributes:
        keep_ms: how long what a commit marks in is kept after it.
    """

    keep_ms: int

    def checked(self, bucket: int, digests: Sequence[bytes]) -> Sequence[str | bytes]:
        """Return the keys to look for ids in, at the time of a bucket."""
        ...

    def committed(self, bucket: int, digests: Sequence[bytes]) -> Sequence[str | bytes]:
        """Return the key or keys to mark ids in, and what else to look for them in before."""
        ...

    def sets(self, keys: Sequence[str | bytes]) -> int:
        """Return how many of the keys are sets of ids."""
        ...

    def packed(self, digests: Sequence[bytes]) -> bytes:
        """Return the ids as far as they are no keys, one after the other."""
        ...


class _SetMarks:
    """Sets that cover half a TTL each: little memory, one command for thousands of ids.

    The present one and the two before it cover at least one whole TTL.
    """

    def __init__(self, keys: Keys, bucket_ms: int) -> None:
        self._keys = keys
        # The youngest mark of a bucket is as old as the bucket's end; keep it a TTL longer.
        self.keep_ms = bucket_ms * 3

    def checked(self, bucket: int, digests: Sequence[bytes]) -> list[str]:
        return [self._keys.seen(bucket - age) for age in range(3)]

    def committed(self, bucket: int, digests: Sequence[bytes]) -> list[str]:
        # Since the check, Redis's time may have gone on into the next bucket.
        return [*self.checked(bucket, digests), self._keys.seen(bucket + 1)]

    def sets(self, keys: Sequence[str | bytes]) -> int:
        return len(keys)

    def packed(self, digests: Sequence[bytes]) -> bytes:
        return b"".join(digests)


class _KeyMarks:
    """A key for each id: each expires a TTL after its own mark, to the millisecond."""

    def __init__(self, keys: Keys, ttl_ms: int) -> None:
        self._prefix = keys.id_prefix.encode()
        self.keep_ms = ttl_ms

    def checked(self, bucket: int, digests: Sequence[bytes]) -> list[bytes]:
        return [self._prefix + digest for digest in digests]

    committed = checked

    def sets(self, keys: Sequence[str | bytes]) -> int:
        return 0

    def packed(self, digests: Sequence[bytes]) -> bytes:
        return b""


def marks_of(layout: Layout, keys: Keys, bucket_ms: int) -> Marks:
    """Return a layout for a partition whose ids are remembered for two buckets at least."""
    return _SetMarks(keys, bucket_ms) if layout == "sets" else _KeyMarks(keys, 2 * bucket_ms)


async def claim_layout(client: redis.asyncio.Redis, group: str, layout: Layout) -> None:
    """Note the group's layout, or make sure that it is the one noted.

    Raises:
        ConfigError: the group has marked ids in the other one.
        StateStoreError: Redis does not answer.
    """
    await claim_setting(
        client,
        group,
        "dedupe",
        layout,
        setting="dedupe.layout",
        remedy="the ids that it remembers lie there. Set it back; to change it, stop all workers, "
        "delete that key and start them anew: until dedupe.ttl has passed, an event that was "
        "processed before and is delivered again is processed again",
    )
