"""Polling quiet shards from callbacks, for as long as they stay quiet.

An empty answer changes nothing but the iterator. A task that is woken twice for each, through half
a dozen coroutines, costs more than signing and sending the question and reading the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from streamproc.errors import StreamprocError
from streamproc.kinesis.budget import Account
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.ticks import GRID_S, Ticks

__all__ = ["Quiet", "QuietApi", "QuietCall", "QuietShards"]

QuietCall = tuple[str, int, Callable[[Answer | OSError], None]]
"""A call to make: the iterator, most records, and whom to call with its answer or failure."""


class QuietApi(Protocol):
    """GetRecords without a coroutine."""

    def ask_at_once(self, calls: Sequence[QuietCall]) -> int:
        """Send GetRecords calls, of which each will tell what came of it.

        Returns:
            How many are sent, from the first on; the others would have to wait for something.
        """
        ...

    def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
        """Return what came of a call that was asked.

        Raises:
            StreamprocError: as `KinesisApi.get_records` does.
        """
        ...


class QuietShards:
    """The quiet shards of a worker: those whose polls are due at one instant are asked together.

    Args:
        api: how to ask.
        grid: seconds between two instants; a poll comes at most half of it early or late.
    """

    def __init__(self, api: QuietApi, grid: float = GRID_S) -> None:
        self.read_answer = api.read_answer
        self._ask = api.ask_at_once
        self._ticks = Ticks(self.poll, grid)
        self._clock = asyncio.get_running_loop().time

    def poll(self, shards: Sequence[Quiet]) -> None:
        """Poll shards now, except those whose stretch was ended."""
        now = self._clock()
        ready = [shard for shard in shards if shard.is_ready(now)]
        asked = self._ask([shard.call for shard in ready])
        for shard in ready[:asked]:
            shard.on_call()
        for shard in ready[asked:]:
            shard.give_way()

    def poll_at(self, time: float, shard: Quiet) -> None:
        """Poll a shard at the instant nearest to a time of the running loop, in seconds."""
        self._ticks.wait(time, shard)


class Quiet:
    """One stretch of quiet of a shard.

    Polls at once and then every `interval` seconds, until an answer is anything but empty at the
    tip, or until a poll fails or would have to wait. Whoever awaits `news` then goes on.

    Args:
        shards: asks, together with others.
        account: where each poll reserves room before it is sent, and gives it back when its answer
            is empty; what is reserved when `news` comes is for the caller to settle.
        interval: seconds between two polls, to the nearest tick.
        limit: most records to ask for.
        expected: bytes to reserve for a poll.
        on_call: called when a poll is sent.

    Attributes:
        iterator: where the next poll reads on; after an empty answer the one that it named.
        news: the first answer that was not empty, or the error of a poll; None if one could not be
            made without waiting. Cancel it to end the stretch.
    """

    __slots__ = (
        "_account",
        "_asked_at",
        "_expected",
        "_interval",
        "_limit",
        "_shards",
        "iterator",
        "news",
        "on_call",
    )

    def __init__(
        self,
        shards: QuietShards,
        account: Account,
        *,
        interval: float,
        limit: int,
        expected: int,
        on_call: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.news: asyncio.Future[GetRecordsResult | None] = loop.create_future()
        self._shards = shards
        self._account = account
        self._interval = interval
        self._limit = limit
        self._expected = expected
        self.on_call = on_call
        self.iterator = ""
        self._asked_at = 0.0

    def begin(self, iterator: str) -> None:
        """Make the first poll, from `iterator` on."""
        self.iterator = iterator
        self._shards.poll([self])

    # What the shards' polls need of each.

    def is_ready(self, now: float) -> bool:
        """Reserve room for a poll, unless the stretch is over; without room it ends here."""
        if self.news.done():
            return False
        if not self._account.reserve_at_once(self._expected):
            self.news.set_result(None)
            return False
        self._asked_at = now
        return True

    @property
    def call(self) -> QuietCall:
        """The poll to make."""
        return self.iterator, self._limit, self._answered

    def give_way(self) -> None:
        """End the stretch with a poll that would have to wait."""
        self._account.settle(0)
        self.news.set_result(None)

    def _answered(self, outcome: Answer | OSError) -> None:
        if self.news.done():
            return  # The stretch was ended meanwhile, and with it the reservation settled.
        try:
            result = self._shards.read_answer(outcome)
        except StreamprocError as error:
            self.news.set_exception(error)
            return
        following = result.next_shard_iterator
        if result.records or result.millis_behind_latest > 0 or following is None:
            self.news.set_result(result)
            return
        self._account.settle(0)
        self.iterator = following
        self._shards.poll_at(self._asked_at + self._interval, self)
