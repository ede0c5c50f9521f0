"""Sinks that write objects to S3: events as they are emitted, and dead letters with their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta

from streamproc.deadletter import DeadLetter
from streamproc.entries import read_options
from streamproc.errors import StreamprocError
from streamproc.sinks.aws import AwsOptions, answer_of, connect_aws
from streamproc.sinks.letters import LetterSink
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["S3LetterSink", "S3Sink", "S3SinkOptions", "open_letter_sink", "open_sink"]

_IN_FLIGHT: Final = 32

T = TypeVar("T")


class S3SinkOptions(AwsOptions, frozen=True, kw_only=True):
    """The s3 sink's options, beside those of `AwsOptions`.

    Attributes:
        bucket: name of the bucket.
        prefix: what the names of objects begin with.
    """

    bucket: Annotated[str, Meta(min_length=3)]
    prefix: str = ""


class _Bucket:
    def __init__(self, client: Any, bucket: str, prefix: str, closing: AsyncExitStack) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._closing = closing

    async def put(self, name: str, body: bytes, content_type: str) -> None:
        """Write one object; again with the same name is the same object.

        Raises:
            StreamError: S3 refuses for good.
            Unavailable: it may be tried again.
        """
        key = f"{self._prefix}{name}"
        await answer_of(
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType=content_type
            ),
            f"PutObject to s3://{self._bucket}/{key}",
        )

    async def aclose(self) -> None:
        await self._closing.aclose()


class S3Sink(Sink):
    """Writes each event's envelope to ``<prefix><type>/<id>.json``.

    Objects know no order; a second delivery writes the same object again.
    """

    def __init__(self, bucket: _Bucket) -> None:
        self._bucket = bucket

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Write an object for each of `events`.

        Raises:
            StreamprocError: none could be written.
        """

        async def write(event: OutgoingEvent) -> None:
            name = f"{_safe(event.type)}/{_safe(event.id)}.json"
            await self._bucket.put(name, event.data, "application/cloudevents+json")

        return await _each(events, write)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._bucket.aclose()


class S3LetterSink(LetterSink):
    """Writes each dead letter as two objects: its bytes as they are, and beside them its facts.

    The names are ``<prefix><stream>/<shard>/<sequence>-<sub>``, with ``.bin`` for the bytes and
    ``.json`` for the rest. The bytes are written first: where the facts are, they are complete.
    """

    def __init__(self, bucket: _Bucket) -> None:
        self._bucket = bucket

    async def send(self, letters: Sequence[DeadLetter]) -> set[int]:
        """Write both objects of each of `letters`.

        Raises:
            StreamprocError: none could be written.
        """

        async def write(letter: DeadLetter) -> None:
            place = (letter.stream, letter.shard, f"{letter.sequence}-{letter.sub}")
            name = "/".join([_safe(part) for part in place])
            await self._bucket.put(f"{name}.bin", letter.data, "application/octet-stream")
            facts = msgspec.json.encode(letter.facts() | {"payload": f"{name}.bin"})
            await self._bucket.put(f"{name}.json", facts, "application/json")

        return await _each(letters, write)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._bucket.aclose()


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the bucket that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    return S3Sink(await _open_bucket(options))


async def open_letter_sink(options: Mapping[str, Any]) -> LetterSink:
    """Open a client for the bucket that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    return S3LetterSink(await _open_bucket(options))


async def _open_bucket(options: Mapping[str, Any]) -> _Bucket:
    settings = read_options(S3SinkOptions, options, "options", "the s3 sink")
    client, closing = await connect_aws("s3", settings)
    return _Bucket(client, settings.bucket, settings.prefix, closing)


async def _each(things: Sequence[T], write: Callable[[T], Awaitable[None]]) -> set[int]:
    """Write side by side; return the indexes of what was written, and raise if nothing was."""
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def guarded(thing: T) -> StreamprocError | None:
        async with room:
            try:
                await write(thing)
            except StreamprocError as error:
                return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guarded(thing)) for thing in things]
    failures = [task.result() for task in tasks]
    done = {at for at, failure in enumerate(failures) if failure is None}
    first = next((failure for failure in failures if failure is not None), None)
    if first is not None and not done:
        raise first
    return done


def _safe(part: str) -> str:
    # No part may name another place: neither with a slash nor as "..".
    return quote(part, safe="").replace(".", "%2E") if set(part) <= {"."} else quote(part, safe="")
