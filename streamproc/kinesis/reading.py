"""What every reader of a shard offers, however it comes by the records, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from streamproc.kinesis.polling import Mode
from streamproc.kinesis.prefetch import Fetched
from streamproc.position import Position

__all__ = ["Clock", "Reader", "ReaderStatistics"]

Clock = Callable[[], float]


class ReaderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the reader began, and its present state.

    `records` counts user records, those of `aggregates` unpacked; `out_of_range` the ones among
    these that were left out because their key belongs to another shard.
    `bytes` is the size on the wire of the answers that had records, `prefetched_bytes` what of it
    is buffered or handed out and not yet released; `millis_behind_latest` is None before the first
    answer.
    """

    records: int
    aggregates: int
    out_of_range: int
    bytes: int
    calls: int
    throttles: int
    expired_iterators: int
    transient_errors: int
    malformed: int
    rewinds: int
    prefetched_bytes: int
    millis_behind_latest: int | None
    mode: Mode


class Reader(Protocol):
    """Reads one shard from a position on; run as a task, with one consumer. See `ShardReader`."""

    async def run(self) -> None:
        """Read until closed or cancelled."""
        ...

    async def next(self) -> Fetched:
        """Return the next answer that has records or ends the shard."""
        ...

    def release(self, fetched: Fetched) -> None:
        """Give an answer's bytes back, once, when its records are committed."""
        ...

    async def rewind(self, position: Position) -> None:
        """Drop what is buffered or under way and read on from `position`."""
        ...

    def close(self) -> None:
        """Drop what is buffered and take no more."""
        ...

    def statistics(self) -> ReaderStatistics:
        """Return counters and state."""
        ...
