"""A sink that sends events to an SQS queue, standard or FIFO."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Annotated, Any, Final

from msgspec import Meta

from streamproc.entries import read_options
from streamproc.sinks.aws import AwsOptions, connect_aws
from streamproc.sinks.messages import MessageSink
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["SqsSink", "SqsSinkOptions", "open_sink"]

# Not allowed in a message, and replaced by U+FFFD without a word; JSON may hold them unescaped.
_NOT_ALLOWED: Final = re.compile("[\ufffe\uffff]")


class SqsSinkOptions(AwsOptions, frozen=True, kw_only=True):
    """The sqs sink's options, beside those of `AwsOptions`.

    Attributes:
        queue_url: the queue's URL; one that ends in ``.fifo`` keeps the order of each key.
    """

    queue_url: Annotated[str, Meta(min_length=1)]


class SqsSink(MessageSink):
    """Sends each event's envelope as the message's body.

    A FIFO queue itself drops what is delivered again within five minutes.
    """

    action = "SendMessageBatch"
    most_bytes = 1024 * 1024  # "SendMessageBatch" page
    remedy = "it stays where it is; use the s3 sink for payloads of this size"

    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes of the body."""
        return len(_body(event).encode())

    def message_of(self, event: OutgoingEvent) -> dict[str, Any]:
        """Return the body."""
        return {"MessageBody": _body(event)}

    def call(self, entries: list[dict[str, Any]]) -> Awaitable[Any]:
        """Call SendMessageBatch."""
        answer: Awaitable[Any] = self.client.send_message_batch(
            QueueUrl=self.destination, Entries=entries
        )
        return answer


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the queue that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(SqsSinkOptions, options, "options", "the sqs sink")
    client, closing = await connect_aws("sqs", settings)
    return SqsSink(client, settings.queue_url, closing=closing)


def _body(event: OutgoingEvent) -> str:
    return _NOT_ALLOWED.sub(lambda found: f"\\u{ord(found[0]):04x}", event.data.decode())
