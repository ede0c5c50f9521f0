"""Registers the consumer that enhanced fan-out pushes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import botocore.exceptions as boto

from streamproc.errors import StreamError
from streamproc.kinesis.errors import Target, TransientError, typed_error
from streamproc.kinesis.polling import Sleep

if TYPE_CHECKING:
    from types_aiobotocore_kinesis.client import KinesisClient as BotoClient

__all__ = ["registered_consumer"]

_LOOK_S: Final = 1.0
_LOOKS: Final = 60


async def registered_consumer(
    boto_client: BotoClient, stream_arn: str, name: str, target: Target, sleep: Sleep
) -> str:
    """Return the ARN of a consumer that is ACTIVE, registered by whichever worker came first.

    Args:
        boto_client: aiobotocore's client.
        stream_arn: the stream.
        name: the consumer's name in the stream.
        target: for messages.
        sleep: waits that many seconds.

    Raises:
        StreamError: Kinesis refuses: no permission, too many consumers, no such stream.
        TransientError: it did not become ACTIVE within a minute, or the calls failed.
    """
    for _ in range(_LOOKS):
        try:
            described = await boto_client.describe_stream_consumer(
                StreamARN=stream_arn, ConsumerName=name
            )
            consumer = described["ConsumerDescription"]
            if consumer["ConsumerStatus"] == "ACTIVE":
                return consumer["ConsumerARN"]
            await sleep(_LOOK_S)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if _code(error) != "ResourceNotFoundException":
                raise typed_error(error, f"DescribeStreamConsumer {name}", target) from error
            await _register(boto_client, stream_arn, name, target)
    raise TransientError(
        f"consumer {name!r} of {target} is not ACTIVE after {_LOOKS * _LOOK_S:g} s; see what `aws "
        "kinesis describe-stream-consumer` tells of it"
    )


async def _register(boto_client: BotoClient, stream_arn: str, name: str, target: Target) -> None:
    try:
        await boto_client.register_stream_consumer(StreamARN=stream_arn, ConsumerName=name)
    except (boto.ClientError, boto.BotoCoreError) as error:
        code = _code(error)
        if code == "ResourceInUseException":
            return  # Another worker was faster.
        if code == "LimitExceededException":
            raise StreamError(
                f"RegisterStreamConsumer {name}, {target}: the stream has all the consumers it may "
                "have (20), or several are being registered; remove one, or name one that exists "
                "in read.consumer"
            ) from error
        raise typed_error(error, f"RegisterStreamConsumer {name}", target) from error


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, boto.ClientError) else ""
