"""A sink that sends events to an SQS queue, standard or FIFO."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from streamproc.entries import read_options
from streamproc.kinesis.polling import Sleep
from streamproc.sinks.aws import answer_of, fifo_id, open_aws
from streamproc.sinks.requests import RequestLimits, RequestSink
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["SqsSink", "SqsSinkOptions", "open_sink"]

# SendMessageBatch takes ten messages, and 1 MiB in one message as well as in all of them together
# ("SendMessageBatch" page).
_MOST_MESSAGES: Final = 10
_MOST_BYTES: Final = 1024 * 1024
# Not allowed in a message, and replaced by U+FFFD without a word; JSON may hold them unescaped.
_NOT_ALLOWED: Final = re.compile("[\ufffe\uffff]")


class SqsSinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The sqs sink's options.

    Attributes:
        queue_url: the queue's URL; one that ends in ``.fifo`` keeps the order of each key.
        region: its AWS region; unset asks the environment.
        endpoint_url: another SQS endpoint, such as a local one.
    """

    queue_url: Annotated[str, Meta(min_length=1)]
    region: str | None = None
    endpoint_url: str | None = None


class SqsSink(RequestSink):
    """Sends each event's envelope as the message's body.

    In a FIFO queue the event's key is the message group, and its id the deduplication id, so that
    SQS itself drops what is delivered again within five minutes.

    Args:
        client: an SQS client.
        queue_url: the queue.
        sleep: waits that many seconds.
        rng: spreads retries.
        closing: closed with the sink.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        *,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._is_fifo = queue_url.endswith(".fifo")
        super().__init__(
            RequestLimits(events=_MOST_MESSAGES, bytes=_MOST_BYTES, event_bytes=_MOST_BYTES),
            ordered=self._is_fifo,
            remedy="it stays where it is; use the s3 sink for payloads of this size",
            sleep=sleep,
            rng=rng,
            closing=closing,
        )
        self._client = client
        self._queue_url = queue_url

    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes of the body."""
        return len(_body(event).encode())

    async def put(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Call SendMessageBatch."""
        answer = await answer_of(
            self._client.send_message_batch(
                QueueUrl=self._queue_url,
                Entries=[self._entry(at, event) for at, event in enumerate(events)],
            ),
            f"SendMessageBatch to {self._queue_url}",
        )
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        return [str(at) in taken for at in range(len(events))]

    def _entry(self, at: int, event: OutgoingEvent) -> dict[str, str]:
        entry = {"Id": str(at), "MessageBody": _body(event)}
        if self._is_fifo:
            entry["MessageGroupId"] = fifo_id(event.key)
            entry["MessageDeduplicationId"] = fifo_id(event.id)
        return entry


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the queue that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(SqsSinkOptions, options, "options", "the sqs sink")
    closing = AsyncExitStack()
    client = await closing.enter_async_context(
        open_aws("sqs", settings.region, settings.endpoint_url)
    )
    return SqsSink(client, settings.queue_url, closing=closing)


def _body(event: OutgoingEvent) -> str:
    return _NOT_ALLOWED.sub(lambda found: f"\\u{ord(found[0]):04x}", event.data.decode())
