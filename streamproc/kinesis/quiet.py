"""Polling a quiet shard from callbacks, for as long as it stays quiet.

An empty answer changes nothing but the iterator. A task that is woken twice for each, through half
a dozen coroutines, costs more than signing and sending the question and reading the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from streamproc.errors import StreamprocError
from streamproc.kinesis.budget import Account
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.ticks import Ticks

__all__ = ["Quiet", "QuietApi"]


class QuietApi(Protocol):
    """GetRecords without a coroutine."""

    def ask_at_once(
        self, iterator: str, limit: int, done: Callable[[Answer | OSError], None]
    ) -> bool:
        """Send a GetRecords call, and have `done` called with its answer or failure.

        Returns:
            False if the call would have to wait for something first; then nothing was sent.
        """
        ...

    def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
        """Return what came of a call that was asked.

        Raises:
            StreamprocError: as `KinesisApi.get_records` does.
        """
        ...


class Quiet:
    """One stretch of quiet of a shard.

    Polls at once and then every `interval` seconds, until an answer is anything but empty at the
    tip, or until a poll fails or would have to wait. Whoever awaits `news` then goes on.

    Args:
        api: how to ask.
        ticks: when to ask.
        account: where each poll reserves room before it is sent, and gives it back when its answer
            is empty; what is reserved when `news` comes is for the caller to settle.
        interval: seconds between two polls, to the nearest tick.
        limit: most records to ask for.
        expected: bytes to reserve for a poll.
        on_call: called when a poll was sent.

    Attributes:
        iterator: where the next poll reads on; after an empty answer the one that it named.
        news: the first answer that was not empty, or the error of a poll; None if one could not be
            made without waiting. Cancel it to end the stretch.
    """

    __slots__ = (
        "_account",
        "_api",
        "_asked_at",
        "_clock",
        "_expected",
        "_interval",
        "_limit",
        "_on_call",
        "_ticks",
        "iterator",
        "news",
    )

    def __init__(
        self,
        api: QuietApi,
        ticks: Ticks,
        account: Account,
        *,
        interval: float,
        limit: int,
        expected: int,
        on_call: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.news: asyncio.Future[GetRecordsResult | None] = loop.create_future()
        self._clock = loop.time
        self._api = api
        self._ticks = ticks
        self._account = account
        self._interval = interval
        self._limit = limit
        self._expected = expected
        self._on_call = on_call
        self.iterator = ""
        self._asked_at = 0.0

    def begin(self, iterator: str) -> None:
        """Make the first poll, from `iterator` on."""
        self.iterator = iterator
        self._poll()

    def _poll(self) -> None:
        if self.news.done():
            return
        self._asked_at = self._clock()
        if not self._account.reserve_at_once(self._expected):
            self.news.set_result(None)
        elif self._api.ask_at_once(self.iterator, self._limit, self._answered):
            self._on_call()
        else:
            self._account.settle(0)
            self.news.set_result(None)

    def _answered(self, outcome: Answer | OSError) -> None:
        if self.news.done():
            return  # The stretch was ended meanwhile, and with it the reservation settled.
        try:
            result = self._api.read_answer(outcome)
        except StreamprocError as error:
            self.news.set_exception(error)
            return
        following = result.next_shard_iterator
        if result.records or result.millis_behind_latest > 0 or following is None:
            self.news.set_result(result)
            return
        self._account.settle(0)
        self.iterator = following
        self._ticks.call(self._asked_at + self._interval, self._poll)
