"""A shard's reader by enhanced fan-out: it follows one subscription after the other."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from streamproc.config import ReadConfig
from streamproc.errors import StreamError
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.cursor import Cursor
from streamproc.kinesis.endings import children_of_ended, children_of_trimmed
from streamproc.kinesis.errors import (
    FanOutUnavailableError,
    KinesisError,
    MalformedResponseError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.fanout import FanOutApi, PushedEvent, PushSubscription
from streamproc.kinesis.polling import Mode, Sleep, backoff_delay
from streamproc.kinesis.prefetch import Fetched, Prefetch
from streamproc.kinesis.reading import Clock, ReaderStatistics
from streamproc.kinesis.records import ChildShard, HashKeyRange
from streamproc.position import Position

__all__ = ["FanOutReader"]

# An idle subscription gets an empty event about every five seconds. One that says nothing for this
# long is dead, whatever its connection looks like.
_SILENCE_S: Final = 35.0
# SubscribeToShard is limited to one call a second for a consumer and shard, and refused within five
# seconds of a successful one (API: SubscribeToShard).
_LEAST_RETRY_S: Final = 1.0
_FAILURES_TO_GIVE_UP: Final = 5
_EXPECTED: Final = 512 * 1024

_COUNTED: Final = (
    "records", "bytes", "calls", "throttles", "transient_errors", "malformed", "rewinds",
)  # fmt: skip

_log = logging.getLogger(__name__)


class FanOutReader:
    """Reads one shard as `ShardReader` does, by events that Kinesis pushes.

    Same contract: `run()` as a task, one consumer that calls `next()` and `release()`. The byte
    budget bounds it the same way: no event is taken before there is room for it, and what is not
    taken stays with the sender.

    Args:
        fan_out: the registered consumer.
        api: the stream, to learn what follows a shard that was trimmed.
        shard_id: the shard.
        start: where to begin; a number means after that record.
        budget: shared by all readers of the worker.
        config: what becomes of strays.
        on_unavailable: told when subscriptions keep failing, before `next()` raises.
        hash_range: the shard's, if known.
        clock: monotonic seconds; the event loop's if None.
        wall_clock: seconds since the epoch.
        sleep: waits that many seconds.
        rng: for backoff.
    """

    def __init__(
        self,
        fan_out: FanOutApi,
        api: KinesisApi,
        shard_id: str,
        start: Position,
        budget: ByteBudget,
        config: ReadConfig,
        *,
        on_unavailable: Callable[[], None],
        hash_range: HashKeyRange | None = None,
        clock: Clock | None = None,
        wall_clock: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._fan_out = fan_out
        self._api = api
        self._shard_id = shard_id
        self._on_unavailable = on_unavailable
        self._clock = clock or asyncio.get_running_loop().time
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._prefetch = Prefetch(shard_id, budget)
        self._cursor = Cursor(start, hash_range if config.out_of_range == "drop" else None)
        self._subscription: PushSubscription | None = None
        self._generation = 0
        self._failures = 0
        self._ended = False
        self._resumed = asyncio.Event()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._behind: int | None = None

    async def run(self) -> None:
        """Read until closed, cancelled, refused for good, or out of patience."""
        try:
            while not self._prefetch.is_closed:
                if self._ended:
                    self._resumed.clear()
                    await self._resumed.wait()
                else:
                    await self._follow()
        except (StreamError, FanOutUnavailableError) as error:
            self._prefetch.fail(error)
        except BaseException:
            self.close()
            raise
        else:
            self.close()

    async def next(self) -> Fetched:
        """Return the next event that has records or ends the shard.

        Raises:
            StreamError: the stream is gone; raised after what was read before it.
            FanOutUnavailableError: subscriptions keep failing.
            ReaderClosedError: the reader was closed or cancelled.
        """
        return await self._prefetch.next()

    def release(self, fetched: Fetched) -> None:
        """Give an event's bytes back to the budget, once, when its records are committed."""
        self._prefetch.release(fetched)

    async def rewind(self, position: Position) -> None:
        """Drop what is buffered or under way and read on from `position`."""
        self._generation += 1
        self._counts["rewinds"] += 1
        self._cursor.move(position)
        self._ended = False
        self._prefetch.drop()
        self._unsubscribe()
        self._resumed.set()

    def close(self) -> None:
        """Drop what is buffered and take no more; cancel the task of `run` to end it at once."""
        self._generation += 1
        self._prefetch.close()
        self._unsubscribe()
        self._resumed.set()

    def statistics(self) -> ReaderStatistics:
        """Return counters and state; `calls` are subscriptions."""
        return ReaderStatistics(
            **self._counts,
            expired_iterators=0,
            aggregates=self._cursor.aggregates,
            out_of_range=self._cursor.out_of_range,
            prefetched_bytes=self._prefetch.kept,
            millis_behind_latest=self._behind,
            mode=self._mode(),
        )

    def _mode(self) -> Mode:
        if self._ended:
            return Mode.ENDED
        return Mode.BACKOFF if self._failures else Mode.PUSH

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    async def _follow(self) -> None:
        """Hand over the events of one subscription."""
        generation = self._generation
        try:
            await self._subscribe(generation)
        except NotFoundError as error:
            children = await children_of_trimmed(self._api, self._shard_id, error)
            if generation == self._generation:
                self._end(children)
        except StreamError as error:
            raise self._unavailable(error) from error
        except KinesisError as error:
            self._note_failure(error)
            if self._failures >= _FAILURES_TO_GIVE_UP:
                raise self._unavailable(error) from error
            await self._sleep(max(_LEAST_RETRY_S, backoff_delay(self._failures, self._rng)))

    async def _subscribe(self, generation: int) -> None:
        position, inclusive = self._cursor.begin(self._wall_clock())
        self._counts["calls"] += 1
        subscription = await self._fan_out.subscribe(self._shard_id, position, inclusive=inclusive)
        self._subscription = subscription
        try:
            while generation == self._generation and not self._ended:
                if not await self._take(subscription, generation):
                    return
        finally:
            subscription.close()
            if self._subscription is subscription:
                self._subscription = None

    async def _take(self, subscription: PushSubscription, generation: int) -> bool:
        """Hand over one event once there is room for it; False when there are no more."""
        # No deadline here: how long the consumer takes says nothing about the subscription.
        await self._prefetch.reserve(_EXPECTED)
        fetched: Fetched | None = None
        event: PushedEvent | None = None
        try:
            async with asyncio.timeout(_SILENCE_S):
                event = await subscription.next()
            if event is not None and generation == self._generation:
                self._failures = 0
                fetched = await self._accept(event, generation)
        except TimeoutError:
            raise TransientError(
                f"{self._shard_id}: the subscription said nothing for {_SILENCE_S:g} s"
            ) from None
        finally:
            self._prefetch.settle(0 if fetched is None else fetched.bytes)
        if fetched is not None:
            self._prefetch.push(fetched)
        return event is not None

    async def _accept(self, event: PushedEvent, generation: int) -> Fetched | None:
        """Return what is to be handed over of an event, if anything."""
        is_end = event.continuation is None
        children = event.child_shards
        if is_end and not children:
            children = await children_of_ended(self._api, self._shard_id)
            if generation != self._generation:
                return None
        self._behind = event.millis_behind_latest
        records = self._cursor.take(event.records, has_aggregates=True)
        if event.continuation is not None:
            self._cursor.advance(Position(event.continuation))
        self._ended = is_end
        if not records and not is_end:
            return None
        self._counts["records"] += len(records)
        self._counts["bytes"] += event.wire_bytes
        return Fetched(
            records=records,
            millis_behind_latest=event.millis_behind_latest,
            fetched_at=self._clock(),
            bytes=event.wire_bytes if records else 0,
            is_end=is_end,
            child_shards=children,
        )

    def _end(self, children: list[ChildShard]) -> None:
        """Hand over the end of a shard that Kinesis no longer knows."""
        self._ended = True
        self._prefetch.push(
            Fetched(
                records=[],
                millis_behind_latest=0,
                fetched_at=self._clock(),
                bytes=0,
                is_end=True,
                child_shards=children,
            )
        )

    def _note_failure(self, error: KinesisError) -> None:
        self._failures += 1
        match error:
            case ThrottledError():
                self._counts["throttles"] += 1
            case MalformedResponseError():
                self._counts["malformed"] += 1
            case _:
                self._counts["transient_errors"] += 1
        _log.debug("%s, failure %d in a row: %s", self._shard_id, self._failures, error)

    def _unavailable(self, error: Exception) -> FanOutUnavailableError:
        self._on_unavailable()
        return FanOutUnavailableError(f"enhanced fan-out does not work, polling instead: {error}")
