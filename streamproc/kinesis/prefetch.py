"""What a reader has ready for its consumer, counted against the worker's byte budget."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from streamproc.errors import StreamprocError
from streamproc.kinesis.budget import Account, ByteBudget
from streamproc.kinesis.errors import ReaderClosedError
from streamproc.kinesis.records import ChildShard, Record

__all__ = ["Fetched", "Prefetch"]


class Fetched(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One answer with records, or the end of the shard, or both.

    Attributes:
        records: in the order of the shard.
        millis_behind_latest: ms from the last record here to the shard's tip.
        fetched_at: monotonic time in seconds at which the answer was there.
        bytes: what it counts for in the budget until it is released.
        is_end: whether the shard is closed and this is its last.
        child_shards: at the end, the shards to read next; empty if the shard was trimmed.
    """

    records: list[Record]
    millis_behind_latest: int
    fetched_at: float
    bytes: int
    is_end: bool = False
    child_shards: list[ChildShard] = msgspec.field(default_factory=list)


class Prefetch:
    """A queue from a reader to its one consumer.

    Args:
        shard_id: the shard, for messages.
        budget: shared by all readers of the worker.
    """

    def __init__(self, shard_id: str, budget: ByteBudget) -> None:
        self._shard_id = shard_id
        self._account = budget.open()
        self._buffer: deque[Fetched] = deque()
        self._arrived = asyncio.Event()
        self._failure: StreamprocError | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    @property
    def account(self) -> Account:
        """Where the reader reserves room, and settles for what it pushes."""
        return self._account

    @property
    def kept(self) -> int:
        """Bytes that are buffered, or handed out and not yet released."""
        return self._account.kept

    @property
    def reserved(self) -> int:
        """Bytes that the next answer may bring; less than was asked for where room is short."""
        return self._account.reserved

    # The reader's side.

    def reserve_at_once(self, size: int) -> bool:
        """Reserve as `reserve` does if there is room now; False if it has to be waited for."""
        return self._account.reserve_at_once(size)

    async def reserve(self, size: int) -> None:
        """Wait for room for an answer of about `size` bytes; `settle` comes next."""
        await self._account.reserve(size)

    def settle(self, actual: int) -> None:
        """Replace the reservation by the bytes that came; 0 if nothing did."""
        self._account.settle(actual)

    def push(self, fetched: Fetched) -> None:
        """Hand over an answer that was settled for."""
        self._buffer.append(fetched)
        self._arrived.set()

    def drop(self) -> None:
        """Forget what is buffered."""
        for fetched in self._buffer:
            self._account.release(fetched.bytes)
        self._buffer.clear()

    def fail(self, error: StreamprocError) -> None:
        """Have the consumer meet `error` after what was read before it."""
        self._failure = error
        self._account.close()
        self._arrived.set()

    def close(self) -> None:
        """Forget what is buffered and take no more, unless it failed: that is still to be told."""
        self._closed = True
        self.drop()
        self._account.close()
        self._arrived.set()

    # The consumer's side.

    async def next(self) -> Fetched:
        """Return the next answer that has records or ends the shard.

        Raises:
            StreamprocError: what the reader failed with.
            ReaderClosedError: the reader was closed or cancelled.
        """
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise ReaderClosedError(f"the reader of {self._shard_id} is closed")
            self._arrived.clear()
            await self._arrived.wait()
        return self._buffer.popleft()

    def release(self, fetched: Fetched) -> None:
        """Give an answer's bytes back to the budget."""
        self._account.release(fetched.bytes)
