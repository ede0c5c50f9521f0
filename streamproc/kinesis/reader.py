"""A shard's reader: one task that reads ahead, in order, within the worker's byte budget."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass

import msgspec

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.allowance import SHARD_BYTES_PER_SECOND, Allowance
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.cursor import Cursor
from streamproc.kinesis.endings import children_of_ended, children_of_trimmed
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    KinesisError,
    MalformedResponseError,
    NotFoundError,
    ThrottledError,
)
from streamproc.kinesis.polling import (
    Mode,
    Pace,
    Sleep,
    after_answer,
    after_failure,
    first_delay,
    least_interval,
    next_delay,
)
from streamproc.kinesis.prefetch import Fetched, Prefetch
from streamproc.kinesis.quiet import Quiet, QuietShards
from streamproc.kinesis.reading import Clock, ReaderStatistics
from streamproc.kinesis.records import HashKeyRange
from streamproc.position import Position

__all__ = ["ShardReader"]

# GetRecords returns up to 10 MB of data, which base64 makes a third longer.
_LARGEST_ANSWER = 14 * 1024 * 1024
_LEAST_RESERVATION = 64 * 1024
# Bytes of a record, before the first one is seen.
_LIKELY_RECORD = 1_024.0
# One failure is nobody's concern, and a throttle now and then is how limits are shared.
_FAILURES_TO_WARN = 5

_log = logging.getLogger(__name__)


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
        quiet: polls the shard while it is idle, together with others, at a fraction of the cost;
            None if it is to be read as any other.
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
        quiet: QuietShards | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._api = api
        self._shard_id = shard_id
        self._config = config
        self._prefetch = Prefetch(shard_id, budget)
        self._clock = clock or asyncio.get_running_loop().time
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._quiet = quiet
        self._stretch: Quiet | None = None
        self._rng = rng or random.Random()

        self._cursor = Cursor(start, hash_range if config.out_of_range == "drop" else None)
        self._iterator: str | None = None
        self._generation = 0
        self._pace = Pace()
        self._expected = _LARGEST_ANSWER
        self._ended = False
        self._last_bytes = 0
        self._record_bytes = self._data_bytes = _LIKELY_RECORD
        rate = SHARD_BYTES_PER_SECOND * config.share
        self._allowance = None if config.share == 1 else Allowance(rate, rate, self._clock())
        self._called_at = 0.0
        self._resumed = asyncio.Event()
        self._counts = _Counts()

    async def run(self) -> None:
        """Read until closed, cancelled or refused for good."""
        try:
            await self._sleep(first_delay(self._config, self._rng))
            while not self._prefetch.is_closed:
                if self._ended:
                    # A rewind may still call back from the end.
                    self._resumed.clear()
                    await self._resumed.wait()
                else:
                    await self._poll()
        except StreamError as error:
            self._prefetch.fail(error)
        except BaseException:
            self.close()
            raise
        else:
            self.close()

    async def next(self) -> Fetched:
        """Return the next answer that has records or ends the shard.

        Raises:
            StreamError: Kinesis refuses for good; raised after what was read before it.
            ReaderClosedError: the reader was closed or cancelled.
        """
        return await self._prefetch.next()

    def release(self, fetched: Fetched) -> None:
        """Give an answer's bytes back to the budget, once, when its records are committed."""
        self._prefetch.release(fetched)

    async def rewind(self, position: Position) -> None:
        """Drop what is buffered or under way and read on from `position`.

        Answers handed out before keep their bytes until they are released. A reader that reached
        the end of its shard reads again.
        """
        self._generation += 1
        self._counts.rewinds += 1
        self._cursor.move(position)
        self._iterator, self._ended = None, False
        self._pace = Pace()
        self._prefetch.drop()
        self._end_quiet()
        self._resumed.set()

    def close(self) -> None:
        """Drop what is buffered and take no more; cancel the task of `run` to end it at once."""
        self._generation += 1
        self._prefetch.close()
        self._end_quiet()
        self._resumed.set()

    def statistics(self) -> ReaderStatistics:
        """Return counters and state."""
        counts = self._counts
        return ReaderStatistics(
            records=counts.records,
            aggregates=self._cursor.aggregates,
            out_of_range=self._cursor.out_of_range,
            bytes=counts.bytes,
            calls=counts.calls,
            throttles=counts.throttles,
            expired_iterators=counts.expired_iterators,
            transient_errors=counts.transient_errors,
            malformed=counts.malformed,
            rewinds=counts.rewinds,
            prefetched_bytes=self._prefetch.kept,
            millis_behind_latest=counts.millis_behind_latest,
            mode=Mode.ENDED if self._ended else self._pace.mode,
        )

    async def _poll(self) -> None:
        """Make one call in its turn, and wait until the next is due."""
        if not self._prefetch.reserve_at_once(self._expected):
            await self._prefetch.reserve(self._expected)
        generation, self._called_at = self._generation, self._clock()
        fetched: Fetched | None = None
        try:
            fetched = await self._fetch(generation)
        except KinesisError as error:
            self._note_failure(error)
        finally:
            self._prefetch.settle(0 if fetched is None else fetched.bytes)
        if fetched is not None:
            self._prefetch.push(fetched)
        if not self._ended and generation == self._generation:
            now = self._clock()
            delay = next_delay(self._pace, self._config, self._called_at, now, self._rng)
            if self._allowance is not None:
                delay = max(delay, self._allowance.wait(now))
            await self._sleep(delay)

    async def _fetch(self, generation: int) -> Fetched | None:
        """Call GetRecords; None when there is nothing to hand over or a rewind came between."""
        try:
            iterator = self._iterator or await self._begin()
            if generation != self._generation:
                return None
            self._iterator = iterator
            result = await self._ask(iterator)
            if result is None or generation != self._generation:
                return None
            if result.next_shard_iterator is None and not result.child_shards:
                children = await children_of_ended(self._api, self._shard_id)
                result = msgspec.structs.replace(result, child_shards=children)
        except NotFoundError as error:
            children = await children_of_trimmed(self._api, self._shard_id, error)
            result = GetRecordsResult(records=[], child_shards=children)
        return self._accept(result) if generation == self._generation else None

    async def _ask(self, iterator: str) -> GetRecordsResult | None:
        """Make the call, or many until there is news; None when a rewind or the end came between.

        Comes and goes with a reservation, which is given back while a quiet shard waits.
        """
        if self._quiet is not None and self._pace.mode is Mode.IDLE:
            self._prefetch.settle(0)
            result = await self._until_news(self._quiet, iterator)
            if result is not None or self._iterator is None or self._prefetch.is_closed:
                return result
            iterator = self._iterator
            await self._prefetch.reserve(self._expected)
        self._note_call()
        return await self._api.get_records(iterator, self._limit())

    def _limit(self) -> int:
        """Return how many records are likely to fit what was reserved."""
        most, reserved = self._most_records(), self._prefetch.reserved
        if reserved >= self._expected:
            return most
        return max(1, min(most, int(reserved / self._record_bytes)))

    def _most_records(self) -> int:
        """Return how many records this group may ask for in one call."""
        most = self._config.max_records
        if self._allowance is None:
            return most
        return min(most, self._allowance.records(least_interval(self._config), self._data_bytes))

    async def _until_news(self, shards: QuietShards, iterator: str) -> GetRecordsResult | None:
        stretch = self._stretch = Quiet(
            shards,
            self._prefetch.account,
            interval=max(least_interval(self._config), self._config.idle_poll_interval),
            limit=self._most_records(),
            expected=self._expected,
            on_call=self._note_call,
        )
        stretch.begin(iterator)
        try:
            return await stretch.news
        finally:
            if self._stretch is stretch:
                self._iterator, self._stretch = stretch.iterator, None

    def _end_quiet(self) -> None:
        stretch, self._stretch = self._stretch, None
        if stretch is not None and not stretch.news.done():
            stretch.news.set_result(None)

    def _note_call(self) -> None:
        self._called_at = self._clock()
        self._counts.calls += 1

    async def _begin(self) -> str:
        position, inclusive = self._cursor.begin(self._wall_clock())
        return await self._api.shard_iterator(self._shard_id, position, inclusive=inclusive)

    def _accept(self, result: GetRecordsResult) -> Fetched | None:
        now, counts = self._clock(), self._counts
        self._iterator = result.next_shard_iterator
        self._ended = result.next_shard_iterator is None
        self._pace = after_answer(
            self._pace, self._config, now, len(result.records), result.millis_behind_latest
        )
        self._expect(result.wire_bytes)
        counts.millis_behind_latest = result.millis_behind_latest
        records = self._cursor.take(result.records, result.has_aggregates)
        if not records and not self._ended:
            return None
        if records:
            counts.records += len(records)
            counts.bytes += result.wire_bytes
            self._record_bytes = max(1.0, result.wire_bytes / len(result.records))
        if self._allowance is not None:
            size = sum(len(each.data) + len(each.partition_key) for each in result.records)
            self._allowance = self._allowance.after(now, size)
            if size:
                self._data_bytes = size / len(result.records)
        return Fetched(
            records=records,
            millis_behind_latest=result.millis_behind_latest,
            fetched_at=now,
            bytes=result.wire_bytes if records else 0,
            is_end=self._ended,
            child_shards=result.child_shards,
        )

    def _expect(self, size: int) -> None:
        """Reserve, from the next call on, twice what the larger of the last two answers took."""
        larger = max(size, self._last_bytes)
        self._last_bytes = size
        self._expected = min(_LARGEST_ANSWER, max(_LEAST_RESERVATION, 2 * larger))

    def _note_failure(self, error: KinesisError) -> None:
        counts = self._counts
        self._pace = after_failure(self._pace, throttled=isinstance(error, ThrottledError))
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


@dataclass(slots=True)
class _Counts:
    records: int = 0
    bytes: int = 0
    calls: int = 0
    throttles: int = 0
    expired_iterators: int = 0
    transient_errors: int = 0
    malformed: int = 0
    rewinds: int = 0
    millis_behind_latest: int | None = None
