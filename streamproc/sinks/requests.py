"""Sinks that send several events in a request, each of which is answered by itself."""

from __future__ import annotations

import asyncio
import logging
import random
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from streamproc.errors import StreamError, StreamprocError
from streamproc.kinesis.polling import Sleep, backoff_delay
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["RequestLimits", "RequestSink"]

log = logging.getLogger(__name__)

_ROUNDS_WITHOUT_PROGRESS: Final = 5

_Waiting = dict[str, list[int]]


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request holds at most: so many events, so many bytes, and so many in one event."""

    events: int
    bytes: int
    event_bytes: int


class RequestSink(Sink):
    """Sends events in requests, keeps the order of each key, and repeats what was not taken.

    A destination may take a later event of a request and refuse an earlier one. So no request has
    two events of one key: an event is sent once the one before it of its key is acknowledged.

    Args:
        limits: of a request.
        ordered: False for a destination that keeps no order anyway: requests are full then.
        remedy: what to do about an event that is too large, for the log.
        sleep: waits that many seconds.
        rng: spreads retries.
        closing: closed with the sink.
    """

    def __init__(
        self,
        limits: RequestLimits,
        *,
        ordered: bool,
        remedy: str,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._limits = limits
        self._ordered = ordered
        self._remedy = remedy
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._closing = closing or AsyncExitStack()
        self._refused: set[str] = set()

    @abstractmethod
    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes that an event counts for."""

    @abstractmethod
    async def put(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Send one request; say for each event whether it was taken.

        Raises:
            StreamError: the destination refuses for good.
            StreamprocError: it does not answer, or not now.
        """

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Send `events`, retrying single ones; give up after five rounds in a row without progress.

        Raises:
            StreamError: the destination refuses for good, and nothing was taken.
            StreamprocError: the destination does not answer, and nothing was taken.
        """
        waiting: _Waiting = {}
        for at, event in enumerate(events):
            waiting.setdefault(event.key if self._ordered else str(at), []).append(at)
        done: set[int] = set()
        failure: Exception | bool = False
        failures = fruitless = 0
        while waiting and fruitless < _ROUNDS_WITHOUT_PROGRESS:
            if failures:
                await self._sleep(backoff_delay(failures, self._rng))
            put, failure = await self._round(events, waiting)
            done |= put
            failures = failures + 1 if failure else 0
            fruitless = 0 if put else fruitless + 1
            # With something put, it is left for the next call, which meets the same and raises it.
            if isinstance(failure, StreamError):
                break
        if isinstance(failure, Exception) and not done:
            raise failure
        return done

    async def aclose(self) -> None:
        """Close the connections."""
        await self._closing.aclose()

    async def _round(
        self, events: Sequence[OutgoingEvent], waiting: _Waiting
    ) -> tuple[set[int], Exception | bool]:
        """Send the first waiting event of each key; return what was put, and any failure."""
        done: set[int] = set()
        failure: Exception | bool = False
        for request in self._requests(events, waiting):
            try:
                taken = await self.put([events[at] for at in request.values()])
            except StreamError as error:
                return done, error
            except StreamprocError as error:
                failure = error
                continue
            failure = failure or not all(taken)
            for (key, at), put in zip(request.items(), taken, strict=True):
                if put:
                    done.add(at)
                    _remove(waiting, key)
        return done, failure

    def _requests(self, events: Sequence[OutgoingEvent], waiting: _Waiting) -> list[dict[str, int]]:
        """Split the first waiting event of each key into requests; forget keys that cannot go."""
        limits = self._limits
        requests: list[dict[str, int]] = [{}]
        size = 0
        for key, indexes in list(waiting.items()):
            event = events[indexes[0]]
            bytes_here = self.size_of(event)
            if bytes_here > limits.event_bytes:
                self._refuse(event, bytes_here)
                del waiting[key]
                continue
            if len(requests[-1]) == limits.events or (
                requests[-1] and size + bytes_here > limits.bytes
            ):
                requests.append({})
                size = 0
            requests[-1][key] = indexes[0]
            size += bytes_here
        return [request for request in requests if request]

    def _refuse(self, event: OutgoingEvent, size: int) -> None:
        if event.id not in self._refused:
            self._refused.add(event.id)
            log.error(
                "event %s has %d bytes, and the destination takes at most %d: %s",
                event.id,
                size,
                self._limits.event_bytes,
                self._remedy,
            )


def _remove(waiting: _Waiting, key: str) -> None:
    waiting[key].pop(0)
    if not waiting[key]:
        del waiting[key]
