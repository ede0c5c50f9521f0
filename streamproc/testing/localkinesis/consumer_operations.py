"""Operations on the registered consumers of a stream (enhanced fan-out)."""

from __future__ import annotations

from typing import Any

from streamproc.testing.localkinesis import errors, limits, requests
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.consumer import Consumer
from streamproc.testing.localkinesis.stream import Stream


def register_stream_consumer(
    account: Account, request: requests.RegisterStreamConsumer
) -> dict[str, Any]:
    """Register a consumer ("RegisterStreamConsumer" page)."""
    now_ms = account.now_ms()
    stream = account.readable_stream(request, now_ms)
    name = request.consumer_name
    if not name:
        raise errors.missing("consumerName")
    if name in stream.consumers:
        raise errors.KinesisError(
            "ResourceInUseException",
            f"Consumer {name} of stream {stream.name} under account {account.id} already exists.",
        )
    if len(stream.consumers) >= limits.CONSUMERS_PER_STREAM:
        raise errors.limit_exceeded(
            f"Stream {stream.name} under account {account.id} has "
            f"{limits.CONSUMERS_PER_STREAM} consumers already."
        )
    arn = f"{stream.arn}/consumer/{name}:{now_ms // 1000}"
    consumer = Consumer(name, arn, now_ms, now_ms + int(account.transition_delay_s * 1000))
    stream.consumers[name] = consumer
    return {"Consumer": _describe(consumer, now_ms)}


def describe_stream_consumer(account: Account, request: requests.StreamConsumer) -> dict[str, Any]:
    """Describe a consumer ("DescribeStreamConsumer" page)."""
    now_ms = account.now_ms()
    stream, consumer = _named(account, request, now_ms)
    return {"ConsumerDescription": _describe(consumer, now_ms) | {"StreamARN": stream.arn}}


def deregister_stream_consumer(account: Account, request: requests.StreamConsumer) -> None:
    """Remove a consumer; its subscriptions end ("DeregisterStreamConsumer" page)."""
    now_ms = account.now_ms()
    stream, consumer = _named(account, request, now_ms)
    for subscription in consumer.subscriptions.values():
        subscription.end_with(_not_found(account, consumer.name))
    del stream.consumers[consumer.name]


def list_stream_consumers(
    account: Account, request: requests.ListStreamConsumers
) -> dict[str, Any]:
    """List a stream's consumers: all of them, since there are at most twenty."""
    now_ms = account.now_ms()
    stream = account.readable_stream(request, now_ms)
    return {"Consumers": [_describe(consumer, now_ms) for consumer in stream.consumers.values()]}


def consumer_of_arn(account: Account, arn: str | None, now_ms: int) -> tuple[Stream, Consumer]:
    """Return a consumer and its stream."""
    if arn is None:
        raise errors.missing("consumerARN")
    stream_arn, _, name = arn.rpartition("/consumer/")
    stream = account.readable_stream(requests.StreamRequest(stream_arn=stream_arn), now_ms)
    consumer = stream.consumers.get(name.partition(":")[0])
    if consumer is None or consumer.arn != arn:
        raise _not_found(account, arn)
    return stream, consumer


def _named(
    account: Account, request: requests.StreamConsumer, now_ms: int
) -> tuple[Stream, Consumer]:
    if request.consumer_arn is not None:
        return consumer_of_arn(account, request.consumer_arn, now_ms)
    stream = account.readable_stream(request, now_ms)
    consumer = stream.consumers.get(request.consumer_name or "")
    if consumer is None:
        raise _not_found(account, str(request.consumer_name))
    return stream, consumer


def _not_found(account: Account, consumer: str) -> errors.KinesisError:
    return errors.KinesisError(
        "ResourceNotFoundException", f"Consumer {consumer}, account {account.id} not found."
    )


def _describe(consumer: Consumer, now_ms: int) -> dict[str, Any]:
    return {
        "ConsumerName": consumer.name,
        "ConsumerARN": consumer.arn,
        "ConsumerStatus": consumer.status(now_ms),
        "ConsumerCreationTimestamp": consumer.created_ms / 1000,
    }
