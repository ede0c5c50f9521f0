"""A shard whose records are a list, and a reader of it as `ShardConsumer` needs one."""

from __future__ import annotations

import asyncio

from streamproc.kinesis.errors import ReaderClosedError
from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.records import Record
from streamproc.position import Position

__all__ = ["LogReader", "ShardLog"]


class ShardLog:
    """The records of one shard, numbered from 1 on."""

    def __init__(self, shard_id: str) -> None:
        self.shard_id = shard_id
        self.records: list[Record] = []
        self.grown = asyncio.Event()

    def append(self, partition_key: str, data: bytes) -> None:
        """Add a record."""
        number = str(len(self.records) + 1)
        self.records.append(Record(number, 0.0, data, partition_key))
        self.grown.set()
        self.grown = asyncio.Event()

    def up_to(self, position: Position | None) -> list[Record]:
        """Return the records that a position has passed."""
        return self.records[: _index(position)]


class LogReader:
    """Hands out a log's records, `size` at a time."""

    def __init__(self, log: ShardLog, start: Position, size: int) -> None:
        self._log = log
        self._next = _index(start)
        self._size = size
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Read ahead: there is nothing to do, but it ends when closed."""
        await self._closed.wait()

    async def next(self) -> Fetched:
        """Return the next records, as soon as there are some."""
        while self._next >= len(self._log.records):
            await self._log.grown.wait()
        if self._closed.is_set():
            raise ReaderClosedError(self._log.shard_id)
        records = self._log.records[self._next : self._next + self._size]
        self._next += len(records)
        return Fetched(records=records, millis_behind_latest=0, fetched_at=0.0, bytes=0)

    def release(self, fetched: Fetched) -> None:
        """Take note that an answer is done with."""

    async def rewind(self, position: Position) -> None:
        """Go on after `position`."""
        self._next = _index(position)

    def close(self) -> None:
        """End `run`."""
        self._closed.set()


def _index(position: Position | None) -> int:
    return 0 if position is None or position.is_start else int(position.sequence)
