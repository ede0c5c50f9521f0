"""A sink that publishes events to an SNS topic, standard or FIFO."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from streamproc.entries import read_options
from streamproc.sinks.aws import AwsOptions, connect_aws
from streamproc.sinks.messages import MessageSink
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["SnsSink", "SnsSinkOptions", "open_sink"]


class SnsSinkOptions(AwsOptions, frozen=True, kw_only=True):
    """The sns sink's options, beside those of `AwsOptions`.

    Attributes:
        topic_arn: the topic; one that ends in ``.fifo`` keeps the order of each key.
    """

    topic_arn: Annotated[str, Meta(min_length=1)]


class SnsSink(MessageSink):
    """Publishes each event's envelope as the message, with its type as the attribute `type`.

    Subscriptions can filter by the attribute.
    """

    action = "PublishBatch"
    most_bytes = 256 * 1024  # "PublishBatch" page
    remedy = "it stays where it is; use the s3 or sqs sink for events of this size"

    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes of the message and its attribute."""
        return len(event.data) + len("type" + "String" + event.type)

    def message_of(self, event: OutgoingEvent) -> dict[str, Any]:
        """Return the message and its attribute."""
        return {
            "Message": event.data.decode(),
            "MessageAttributes": {"type": {"DataType": "String", "StringValue": event.type}},
        }

    def call(self, entries: list[dict[str, Any]]) -> Awaitable[Any]:
        """Call PublishBatch."""
        answer: Awaitable[Any] = self.client.publish_batch(
            TopicArn=self.destination, PublishBatchRequestEntries=entries
        )
        return answer


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the topic that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(SnsSinkOptions, options, "options", "the sns sink")
    client, closing = await connect_aws("sns", settings)
    return SnsSink(client, settings.topic_arn, closing=closing)
