"""What queues and topics share: batches of ten messages, of which each is taken or not."""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final

from streamproc.kinesis.polling import Sleep
from streamproc.sinks.aws import answer_of, fifo_id
from streamproc.sinks.requests import RequestLimits, RequestSink
from streamproc.sinks.sink import OutgoingEvent

__all__ = ["MessageSink"]

# SQS's SendMessageBatch and SNS's PublishBatch alike.
_MOST_MESSAGES: Final = 10


class MessageSink(RequestSink):
    """Sends each event as a message to a queue or topic, standard or FIFO.

    In a FIFO one the event's key is the message group, and its id the deduplication id.

    Args:
        client: a client of the service.
        destination: the queue's URL or the topic's ARN; one that ends in ``.fifo`` keeps the order
            of each key.
        sleep: waits that many seconds.
        rng: spreads retries.
        closing: closed with the sink.
    """

    action: ClassVar[str]
    """The service's name of the call, for messages."""

    most_bytes: ClassVar[int]
    """Most bytes in one message as well as in all of a batch together."""

    remedy: ClassVar[str]
    """What to do about an event that is larger."""

    def __init__(
        self,
        client: Any,
        destination: str,
        *,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._is_fifo = destination.endswith(".fifo")
        super().__init__(
            RequestLimits(
                events=_MOST_MESSAGES, bytes=self.most_bytes, event_bytes=self.most_bytes
            ),
            ordered=self._is_fifo,
            remedy=self.remedy,
            sleep=sleep,
            rng=rng,
            closing=closing,
        )
        self.client = client
        self.destination = destination

    @abstractmethod
    def message_of(self, event: OutgoingEvent) -> dict[str, Any]:
        """Return an event's entry in a call, without the fields that all entries have."""

    @abstractmethod
    def call(self, entries: list[dict[str, Any]]) -> Awaitable[Any]:
        """Call the service."""

    async def put(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Send a batch; return which events were taken."""
        entries = [self._entry(at, event) for at, event in enumerate(events)]
        answer = await answer_of(self.call(entries), f"{self.action} to {self.destination}")
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        return [str(at) in taken for at in range(len(events))]

    def _entry(self, at: int, event: OutgoingEvent) -> dict[str, Any]:
        entry = {"Id": str(at), **self.message_of(event)}
        if self._is_fifo:
            entry["MessageGroupId"] = fifo_id(event.key)
            entry["MessageDeduplicationId"] = fifo_id(event.id)
        return entry
