"""A sink that puts events into another Kinesis stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from streamproc.config import StreamConfig
from streamproc.entries import read_options
from streamproc.kinesis.api import KinesisApi, PutEntry
from streamproc.kinesis.client import open_kinesis
from streamproc.kinesis.polling import Sleep
from streamproc.sinks.requests import RequestLimits, RequestSink
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["KinesisSink", "KinesisSinkOptions", "open_sink"]

# PutRecords takes 500 records and 10 MiB, keys of 1 to 256 characters ("PutRecords" page). A body
# that is below 1 MiB with base64 and all goes out in one piece without holding up the event loop.
_MOST_RECORDS: Final = 500
_MOST_BYTES: Final = 640 * 1024
_LONGEST_KEY: Final = 256


class KinesisSinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The kinesis sink's options.

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


class KinesisSink(RequestSink):
    """Puts each event under its key as the partition key, the envelope as the data.

    Args:
        api: the stream to write to.
        max_record_bytes: larger events are not sent, and block their key.
        sleep: waits that many seconds.
        rng: spreads retries.
        closing: closed with the sink.
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
        super().__init__(
            RequestLimits(events=_MOST_RECORDS, bytes=_MOST_BYTES, event_bytes=max_record_bytes),
            ordered=True,
            remedy="it stays and blocks its key; raise the stream's record limit and the sink's "
            "option max_record_bytes",
            sleep=sleep,
            rng=rng,
            closing=closing,
        )
        self._api = api

    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes of data and key, which Kinesis counts together."""
        return len(event.data) + len(_partition_key(event.key).encode())

    async def put(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Call PutRecords."""
        results = await self._api.put_records(
            [PutEntry(data=event.data, partition_key=_partition_key(event.key)) for event in events]
        )
        return [result.sequence_number is not None for result in results]


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the stream that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(KinesisSinkOptions, options, "options", "the kinesis sink")
    stream = StreamConfig(
        name=settings.stream, region=settings.region, endpoint_url=settings.endpoint_url
    )
    closing = AsyncExitStack()
    api = await closing.enter_async_context(open_kinesis(stream))
    return KinesisSink(api, settings.max_record_bytes, closing=closing)


def _partition_key(key: str) -> str:
    """Return the key itself, or for one that Kinesis does not take a digest that is its own."""
    if 1 <= len(key) <= _LONGEST_KEY:
        return key
    return blake2b(key.encode(), digest_size=16).hexdigest()
