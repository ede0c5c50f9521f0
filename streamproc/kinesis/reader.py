"""A shard's reader: one task that reads ahead, in order, within the worker's byte budget."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.aggregation import deaggregate
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    KinesisError,
    MalformedResponseError,
    NotFoundError,
    ReaderClosedError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.polling import (
    Mode,
    Pace,
    Sleep,
    after_answer,
    after_failure,
    first_delay,
    next_delay,
)
from streamproc.kinesis.records import ChildShard, HashKeyRange, Record
from streamproc.position import LATEST, Position

__all__ = ["Fetched", "ReaderStatistics", "ShardReader"]

Clock = Callable[[], float]

# GetRecords returns up to 10 MB of data, which base64 makes a third longer.
_LARGEST_ANSWER = 14 * 1024 * 1024
_LEAST_RESERVATION = 64 * 1024
# Arrival times are Kinesis's, the clock is this host's: look back a little further.
_CLOCK_TOLERANCE_S = 1.0
# One failure is nobody's concern, and a throttle now and then is how limits are shared.
_FAILURES_TO_WARN = 5

_log = logging.getLogger(__name__)


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


class ShardReader:
    """Reads one shard from a position on and hands the answers over in order.

    Run `run()` as a task of the caller's task group; it ends when it is cancelled or closed, or
    with the error that `next()` then raises. One consumer calls `next()`, and `release()` for each
    answer once its records are committed: what is not released counts against the budget. Release
    an answer before waiting for one that needs its room.

    Invariants: every record after the start is handed over exactly once, in shard order, however
    often calls fail or iterators expire; after `rewind`, nothing fetched before it is.

    Args:
        api: the stream.
        shard_id: the shard.
        start: where to begin; a number means after that record.
        budget: shared by all readers of the worker.
        config: intervals and limits.
        hash_range: the shard's, if known; decides which sub-records of a KPL aggregate are its.
        clock: monotonic seconds; the event loop's if None.
        wall_clock: seconds since the epoch.
        sleep: waits that many seconds.
        rng: for spreading and backoff.
    """

    def __init__(
        self,
        api: KinesisApi,
        shard_id: str,
        start: Position,
        budget: ByteBudget,
        config: ReadConfig,
        *,
        hash_range: HashKeyRange | None = None,
        clock: Clock | None = None,
        wall_clock: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._api = api
        self._shard_id = shard_id
        self._config = config
        self._hash_range = hash_range if config.out_of_range == "drop" else None
        self._account = budget.open()
        self._clock = clock or asyncio.get_running_loop().time
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._rng = rng or random.Random()

        self._resume = start
        # A position from elsewhere may lie inside an aggregate: its record is read once more, and
        # what was passed of it is left out. After an answer, its last record is passed as a whole.
        self._passed: Position | None = start
        self._iterator: str | None = None
        self._generation = 0
        self._pace = Pace()
        self._expected = _LARGEST_ANSWER
        self._ended = False
        self._closed = False
        self._failure: StreamError | None = None
        self._last_bytes = 0

        self._buffer: deque[Fetched] = deque()
        self._arrived = asyncio.Event()
        self._resumed = asyncio.Event()
        self._counts = _Counts()

    async def run(self) -> None:
        """Read until closed, cancelled or refused for good."""
        try:
            await self._sleep(first_delay(self._config, self._rng))
            while not self._closed:
                if self._ended:
                    # A rewind may still call back from the end.
                    self._resumed.clear()
                    await self._resumed.wait()
                else:
                    await self._poll()
        except StreamError as error:
            self._failure = error
            self._account.close()
            self._arrived.set()
        finally:
            if self._failure is None:
                self.close()

    async def next(self) -> Fetched:
        """Return the next answer that has records or ends the shard.

        Raises:
            StreamError: Kinesis refuses for good; raised after what was read before it.
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
        """Give an answer's bytes back to the budget, once, when its records are committed."""
        self._account.release(fetched.bytes)

    async def rewind(self, position: Position) -> None:
        """Drop what is buffered or under way and read on from `position`.

        Answers handed out before keep their bytes until they are released. A reader that reached
        the end of its shard reads again.
        """
        self._generation += 1
        self._counts.rewinds += 1
        self._resume, self._iterator, self._ended = position, None, False
        self._passed = position
        self._pace = Pace()
        self._drop_buffer()
        self._resumed.set()

    def close(self) -> None:
        """Drop what is buffered and take no more; cancel the task of `run` to end it at once."""
        self._closed = True
        self._generation += 1
        self._drop_buffer()
        self._account.close()
        self._resumed.set()
        self._arrived.set()

    def statistics(self) -> ReaderStatistics:
        """Return counters and state."""
        counts = self._counts
        return ReaderStatistics(
            records=counts.records,
            aggregates=counts.aggregates,
            out_of_range=counts.out_of_range,
            bytes=counts.bytes,
            calls=counts.calls,
            throttles=counts.throttles,
            expired_iterators=counts.expired_iterators,
            transient_errors=counts.transient_errors,
            malformed=counts.malformed,
            rewinds=counts.rewinds,
            prefetched_bytes=self._account.kept,
            millis_behind_latest=counts.millis_behind_latest,
            mode=Mode.ENDED if self._ended else self._pace.mode,
        )

    async def _poll(self) -> None:
        """Make one call in its turn, and wait until the next is due."""
        await self._account.reserve(self._expected)
        generation, started = self._generation, self._clock()
        fetched: Fetched | None = None
        try:
            fetched = await self._fetch(generation)
        except KinesisError as error:
            self._note_failure(error)
        finally:
            self._account.settle(0 if fetched is None else fetched.bytes)
        if fetched is not None:
            self._buffer.append(fetched)
            self._arrived.set()
        if not self._ended and generation == self._generation:
            await self._sleep(
                next_delay(self._pace, self._config, started, self._clock(), self._rng)
            )

    async def _fetch(self, generation: int) -> Fetched | None:
        """Call GetRecords; None when there is nothing to hand over or a rewind came between."""
        try:
            iterator = self._iterator or await self._begin()
            if generation != self._generation:
                return None
            self._iterator = iterator
            self._counts.calls += 1
            result = await self._api.get_records(iterator, self._config.max_records)
            if result.next_shard_iterator is None and not result.child_shards:
                result = msgspec.structs.replace(result, child_shards=await self._children(result))
        except NotFoundError as error:
            result = GetRecordsResult(
                records=[], child_shards=await self._children_of_trimmed(error)
            )
        return self._accept(result) if generation == self._generation else None

    async def _begin(self) -> str:
        position = self._resume
        if position == LATEST:
            # LATEST once more would leave out what arrived since the first time, and nothing
            # delivered yet says where that was.
            since = self._wall_clock() - _CLOCK_TOLERANCE_S
            self._resume = Position("AT_TIMESTAMP", timestamp=since)
        return await self._api.shard_iterator(
            self._shard_id, position, inclusive=self._passed is not None and not position.is_start
        )

    def _accept(self, result: GetRecordsResult) -> Fetched | None:
        now, counts = self._clock(), self._counts
        self._iterator = result.next_shard_iterator
        self._ended = result.next_shard_iterator is None
        self._pace = after_answer(
            self._pace, self._config, now, len(result.records), result.millis_behind_latest
        )
        self._expect(result.wire_bytes)
        counts.millis_behind_latest = result.millis_behind_latest
        records = self._user_records(result)
        if not records and not self._ended:
            return None
        if records:
            counts.records += len(records)
            counts.bytes += result.wire_bytes
        return Fetched(
            records=records,
            millis_behind_latest=result.millis_behind_latest,
            fetched_at=now,
            bytes=result.wire_bytes if records else 0,
            is_end=self._ended,
            child_shards=result.child_shards,
        )

    def _user_records(self, result: GetRecordsResult) -> list[Record]:
        """Return what is to be processed: aggregates unpacked, and nothing that was passed."""
        records, passed = result.records, self._passed
        if not records:
            return records
        self._resume, self._passed = Position(records[-1].sequence_number), None
        if result.has_aggregates:
            unpacked = deaggregate(records, self._hash_range)
            records = unpacked.records
            self._counts.aggregates += unpacked.aggregates
            self._counts.out_of_range += unpacked.out_of_range
        if passed is not None and records and records[0].sequence_number == passed.sequence:
            records = [
                record
                for record in records
                if record.sequence_number != passed.sequence or record.sub > passed.sub
            ]
        return records

    def _expect(self, size: int) -> None:
        """Reserve, from the next call on, twice what the larger of the last two answers took."""
        larger = max(size, self._last_bytes)
        self._last_bytes = size
        self._expected = min(_LARGEST_ANSWER, max(_LEAST_RESERVATION, 2 * larger))

    async def _children(self, result: GetRecordsResult) -> list[ChildShard]:
        """Return the children of a shard that ended without naming any.

        Kinesis names them; some that speak its protocol do not.

        Raises:
            MalformedResponseError: the shard is open, so the answer is wrong.
        """
        shards = await self._api.list_shards()
        if any(shard.shard_id == self._shard_id and shard.is_open for shard in shards):
            raise MalformedResponseError(
                f"GetRecords of {self._shard_id} answered no next iterator although the shard is "
                f"open ({len(result.records)} records left out, to be read again)"
            )
        return self._descendants(shards)

    async def _children_of_trimmed(self, error: NotFoundError) -> list[ChildShard]:
        """Return the children of a shard that Kinesis no longer knows.

        Raises:
            NotFoundError: the whole stream is gone.
            TransientError: the shard is listed nevertheless.
        """
        shards = await self._api.list_shards()
        if any(shard.shard_id == self._shard_id for shard in shards):
            raise TransientError(f"a listed shard was not found: {error}") from error
        return self._descendants(shards)

    def _descendants(self, shards: list[ShardInfo]) -> list[ChildShard]:
        return [
            ChildShard(
                shard_id=shard.shard_id,
                parent_shards=list(shard.parents),
                hash_key_range=HashKeyRange(shard.starting_hash_key, shard.ending_hash_key),
            )
            for shard in shards
            if self._shard_id in shard.parents
        ]

    def _note_failure(self, error: KinesisError) -> None:
        counts = self._counts
        self._pace = after_failure(self._pace)
        match error:
            case ThrottledError():
                counts.throttles += 1
            case ExpiredIteratorError():
                counts.expired_iterators += 1
                self._iterator = None
            case MalformedResponseError():
                counts.malformed += 1
            case _:
                counts.transient_errors += 1
        level = logging.WARNING if self._pace.failures == _FAILURES_TO_WARN else logging.DEBUG
        _log.log(level, "%s, failure %d in a row: %s", self._shard_id, self._pace.failures, error)

    def _drop_buffer(self) -> None:
        for fetched in self._buffer:
            self._account.release(fetched.bytes)
        self._buffer.clear()


@dataclass
class _Counts:
    records: int = 0
    aggregates: int = 0
    out_of_range: int = 0
    bytes: int = 0
    calls: int = 0
    throttles: int = 0
    expired_iterators: int = 0
    transient_errors: int = 0
    malformed: int = 0
    rewinds: int = 0
    millis_behind_latest: int | None = None
