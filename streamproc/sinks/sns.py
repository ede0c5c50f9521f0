"""A sink that publishes events to an SNS topic, standard or FIFO."""

from __future__ import annotations

import asyncio
import random
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

__all__ = ["SnsSink", "SnsSinkOptions", "open_sink"]

# PublishBatch takes ten messages, and 256 KiB in one message as well as in all of them together
# ("PublishBatch" page).
_MOST_MESSAGES: Final = 10
_MOST_BYTES: Final = 256 * 1024


class SnsSinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The sns sink's options.

    Attributes:
        topic_arn: the topic; one that ends in ``.fifo`` keeps the order of each key.
        region: its AWS region; unset asks the environment.
        endpoint_url: another SNS endpoint, such as a local one.
    """

    topic_arn: Annotated[str, Meta(min_length=1)]
    region: str | None = None
    endpoint_url: str | None = None


class SnsSink(RequestSink):
    """Publishes each event's envelope as the message, with its type as the attribute `type`.

    Subscriptions can filter by the attribute. In a FIFO topic the event's key is the message group,
    and its id the deduplication id.

    Args:
        client: an SNS client.
        topic_arn: the topic.
        sleep: waits that many seconds.
        rng: spreads retries.
        closing: closed with the sink.
    """

    def __init__(
        self,
        client: Any,
        topic_arn: str,
        *,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._is_fifo = topic_arn.endswith(".fifo")
        super().__init__(
            RequestLimits(events=_MOST_MESSAGES, bytes=_MOST_BYTES, event_bytes=_MOST_BYTES),
            ordered=self._is_fifo,
            remedy="it stays where it is; use the s3 or sqs sink for events of this size",
            sleep=sleep,
            rng=rng,
            closing=closing,
        )
        self._client = client
        self._topic_arn = topic_arn

    def size_of(self, event: OutgoingEvent) -> int:
        """Return the bytes of the message and its attribute."""
        return len(event.data) + len("type" + "String" + event.type)

    async def put(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Call PublishBatch."""
        answer = await answer_of(
            self._client.publish_batch(
                TopicArn=self._topic_arn,
                PublishBatchRequestEntries=[
                    self._entry(at, event) for at, event in enumerate(events)
                ],
            ),
            f"PublishBatch to {self._topic_arn}",
        )
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        return [str(at) in taken for at in range(len(events))]

    def _entry(self, at: int, event: OutgoingEvent) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "Id": str(at),
            "Message": event.data.decode(),
            "MessageAttributes": {"type": {"DataType": "String", "StringValue": event.type}},
        }
        if self._is_fifo:
            entry["MessageGroupId"] = fifo_id(event.key)
            entry["MessageDeduplicationId"] = fifo_id(event.id)
        return entry


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Open a client for the topic that the options name; nothing is sent yet.

    Raises:
        ConfigError: an option is wrong, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    settings = read_options(SnsSinkOptions, options, "options", "the sns sink")
    closing = AsyncExitStack()
    client = await closing.enter_async_context(
        open_aws("sns", settings.region, settings.endpoint_url)
    )
    return SnsSink(client, settings.topic_arn, closing=closing)
