"""Polling a quiet shard from callbacks, for as long as it stays quiet.

An empty answer changes nothing but the iterator. A task that is woken twice for each, through half
a dozen coroutines, costs more than signing and sending the question and reading the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from streamproc.errors import StreamprocError
from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.prefetch import Prefetch
from streamproc.kinesis.ticks import Ticks
from streamproc.kinesis.transport import Answer

__all__ = ["Quiet", "QuietApi"]


class QuietApi(Protocol):
    """GetRecords without a coroutine."""

    def ask_at_once(
        self, iterator: str, limit: int, done: Callable[[asyncio.Future[Answer]], None]
    ) -> bool:
        """Send a GetRecords call, and have `done` called with its answer or failure.

        Returns:
            False if the call would have to wait for something first; then nothing was sent.
        """
        ...

    def read_answer(self, answer: asyncio.Future[Answer]) -> GetRecordsResult:
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
        prefetch: where each poll reserves room before it is sent, and gives it back when its answer
            is empty; what is reserved when `news` comes is for the caller to settle.
        interval: seconds between two polls, to the nearest tick.
        limit: most records to ask for.
        expected: bytes to reserve for a poll.
        on_call: called when a poll was sent.
        on_empty: told the next iterator after each empty answer.

    Attributes:
        news: the first answer that was not empty, or the error of a poll; None if one could not be
            made without waiting. Cancel it to end the stretch.
    """

    def __init__(
        self,
        api: QuietApi,
        ticks: Ticks,
        prefetch: Prefetch,
        *,
        interval: float,
        limit: int,
        expected: int,
        on_call: Callable[[], None],
        on_empty: Callable[[str], None],
    ) -> None:
        self.news: asyncio.Future[GetRecordsResult | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._api = api
        self._ticks = ticks
        self._prefetch = prefetch
        self._interval = interval
        self._limit = limit
        self._expected = expected
        self._on_call = on_call
        self._on_empty = on_empty
        self._iterator = ""

    def begin(self, iterator: str) -> None:
        """Make the first poll, from `iterator` on."""
        self._iterator = iterator
        self._poll()

    def _poll(self) -> None:
        if self.news.done():
            return
        if not self._prefetch.reserve_at_once(self._expected):
            self.news.set_result(None)
        elif self._api.ask_at_once(self._iterator, self._limit, self._answered):
            self._on_call()
        else:
            self._prefetch.settle(0)
            self.news.set_result(None)

    def _answered(self, answer: asyncio.Future[Answer]) -> None:
        if self.news.done():
            # The stretch was ended meanwhile, and with it the reservation settled. An error is
            # looked at all the same, or asyncio would complain that nobody did.
            if not answer.cancelled():
                answer.exception()
            return
        try:
            result = self._api.read_answer(answer)
        except StreamprocError as error:
            self.news.set_exception(error)
            return
        following = result.next_shard_iterator
        if result.records or result.millis_behind_latest > 0 or following is None:
            self.news.set_result(result)
            return
        self._prefetch.settle(0)
        self._iterator = following
        self._on_empty(following)
        self._ticks.call(self._interval, self._poll)
