"""A sink that puts events into another Kinesis stream."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from streamproc.config import StreamConfig
from streamproc.entries import read_options
from streamproc.errors import StreamError
from streamproc.kinesis.api import KinesisApi, PutEntry
from streamproc.kinesis.client import open_kinesis
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.polling import Sleep, backoff_delay
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["KinesisSink", "KinesisSinkOptions", "open_sink"]

log = logging.getLogger(__name__)

# PutRecords takes 500 records and 10 MiB, keys of 1 to 256 characters ("PutRecords" page). A body
# that is below 1 MiB with base64 and all goes out in one piece without holding up the event loop.
_MOST_RECORDS: Final = 500
_MOST_BYTES: Final = 640 * 1024
_LONGEST_KEY: Final = 256
_ROUNDS_WITHOUT_PROGRESS: Final = 5

_Waiting = dict[str, list[int]]


class KinesisSinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`[outbox.options]` of the kinesis sink.

    Attributes:
        stream: name of the stream to write to.
        region: its AWS region; unset asks the environment.
        endpoint_url: another Kinesis endpoint, such as a local one.
        max_record_bytes: most bytes of an event with its key; Kinesis's own limit of the stream.
    """

    stream: Annotated[str, Meta(min_length=1)]
    region: str | None = None
    endpoint_url: str | None = None
    max_record_bytes: Annotated[int, Meta(ge=1)] = 1024 * 1024


class KinesisSink(Sink):
    """Puts each event under its key as the partition key, the envelope as the data.

    PutRecords may take a later record of a request and refuse an earlier one. So no request has
    two records of one key: an event is sent once the one before it of its key is acknowledged.

    Args:
        api: the stream to write to.
        max_record_bytes: larger events are not sent, and block their key.
        sleep: waits that many seconds.
        rng: spreads retries.
    """

    def __init__(
        self,
        api: KinesisApi,
        max_record_bytes: int = 1024 * 1024,
        *,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._api = api
        self._max_record_bytes = max_record_bytes
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._closing = closing or AsyncExitStack()
        self._refused: set[str] = set()

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Put `events`, retrying single ones; give up after five rounds in a row without progress.

        Raises:
            StreamError: Kinesis refuses for good, and nothing was put.
            KinesisError: Kinesis does not answer, and nothing was put.
        """
        waiting: _Waiting = {}
        for at, event in enumerate(events):
            waiting.setdefault(event.key, []).append(at)
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
                put = await self._put(events, request)
            except KinesisError as error:
                failure = error
                continue
            except StreamError as error:
                return done, error
            failure = failure or len(put) < len(request)
            done |= put
            _remove(waiting, events, put)
        return done, failure

    def _requests(self, events: Sequence[OutgoingEvent], waiting: _Waiting) -> list[list[int]]:
        """Split the first waiting event of each key into requests; forget keys that cannot go."""
        requests: list[list[int]] = [[]]
        size = 0
        for key, indexes in list(waiting.items()):
            event = events[indexes[0]]
            bytes_here = len(event.data) + len(_partition_key(key).encode())
            if bytes_here > self._max_record_bytes:
                self._refuse(event, bytes_here)
                del waiting[key]
                continue
            if len(requests[-1]) == _MOST_RECORDS or (
                requests[-1] and size + bytes_here > _MOST_BYTES
            ):
                requests.append([])
                size = 0
            requests[-1].append(indexes[0])
            size += bytes_here
        return [request for request in requests if request]

    def _refuse(self, event: OutgoingEvent, size: int) -> None:
        if event.id not in self._refused:
            self._refused.add(event.id)
            log.error(
                "event %s has %d bytes, a record at most %d: it stays and blocks its key; raise "
                "the stream's record limit and outbox.options.max_record_bytes",
                event.id,
                size,
                self._max_record_bytes,
            )

    async def _put(self, events: Sequence[OutgoingEvent], request: list[int]) -> set[int]:
        results = await self._api.put_records(
            [
                PutEntry(data=events[at].data, partition_key=_partition_key(events[at].key))
                for at in request
            ]
        )
        return {at for at, result in zip(request, results, strict=True) if result.sequence_number}


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the stream that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(KinesisSinkOptions, options, "outbox.options", "the kinesis sink")
    stream = StreamConfig(
        name=settings.stream, region=settings.region, endpoint_url=settings.endpoint_url
    )
    closing = AsyncExitStack()
    api = await closing.enter_async_context(open_kinesis(stream))
    return KinesisSink(api, settings.max_record_bytes, closing=closing)


def _remove(waiting: _Waiting, events: Sequence[OutgoingEvent], put: set[int]) -> None:
    for at in put:
        key = events[at].key
        waiting[key].remove(at)
        if not waiting[key]:
            del waiting[key]


def _partition_key(key: str) -> str:
    """Return the key itself, or for one that Kinesis does not take a digest that is its own."""
    if 1 <= len(key) <= _LONGEST_KEY:
        return key
    return blake2b(key.encode(), digest_size=16).hexdigest()
