"""Clients for the AWS services that events are sent to, and what their failures mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import blake2b
from typing import Any, Final

import botocore.exceptions as boto
import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from streamproc.errors import ConfigError, StreamError, StreamprocError

__all__ = ["AwsOptions", "Unavailable", "answer_of", "connect_aws", "fifo_id", "open_aws"]

_TIMEOUT_S: Final = 10.0
_CONNECTIONS: Final = 50
_THROTTLED: Final = frozenset(
    {
        "OverLimit", "RequestThrottled", "RequestTimeout", "SlowDown", "ThrottledException",
        "Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded",
    }
)  # fmt: skip
# Of message groups and deduplication ids of SQS and SNS: printable ASCII.
_FIFO_ID: Final = re.compile(r"[!-~]{1,128}")
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.TokenRetrievalError,
)


class AwsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where an AWS service is.

    Attributes:
        region: its AWS region; unset asks the environment.
        endpoint_url: another endpoint, such as a local one.
    """

    region: str | None = None
    endpoint_url: str | None = None


class Unavailable(StreamprocError):
    """The destination did not answer, or asked for patience; the call may be made again."""


@asynccontextmanager
async def open_aws(
    service: str, region: str | None, endpoint_url: str | None
) -> AsyncIterator[Any]:
    """Open a client; nothing is sent yet. Each call is made once: callers repeat it themselves.

    Raises:
        ConfigError: the endpoint is no URL, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    session = AioSession()
    # A local endpoint does not care, but requests are signed for some region.
    region = region or session.get_config_variable("region") or (endpoint_url and "us-east-1")
    try:
        creating = session.create_client(
            service,
            region_name=region,
            endpoint_url=endpoint_url,
            config=AioConfig(
                connect_timeout=_TIMEOUT_S,
                read_timeout=_TIMEOUT_S,
                max_pool_connections=_CONNECTIONS,
                retries={"total_max_attempts": 1, "mode": "standard"},
                # A bucket's name in the path is right for a local endpoint, too.
                s3={"addressing_style": "path"} if endpoint_url else None,
            ),
        )
        client = await creating.__aenter__()
    except boto.NoRegionError:
        raise ConfigError("options.region: no AWS region is known; set it or AWS_REGION") from None
    except boto.BotoCoreError as error:
        raise StreamError(f"cannot set up the {service} client: {error}") from error
    except ValueError as error:
        raise ConfigError(f"options.endpoint_url = {endpoint_url!r}: {error}") from None
    try:
        yield client
    finally:
        await creating.__aexit__(None, None, None)


async def connect_aws(service: str, options: AwsOptions) -> tuple[Any, AsyncExitStack]:
    """Return a client as `open_aws` does, and what closes it."""
    closing = AsyncExitStack()
    opening = open_aws(service, options.region, options.endpoint_url)
    return await closing.enter_async_context(opening), closing


async def answer_of(call: Awaitable[Any], what: str) -> Any:
    """Return the answer of an AWS call.

    Args:
        call: the call.
        what: the action and whom it is meant for, for messages.

    Raises:
        StreamError: it is refused for good.
        Unavailable: it may be made again.
    """
    try:
        return await call
    except boto.ClientError as error:
        answer: dict[str, Any] = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        detail = str(answer.get("Error", {}).get("Message", "")) or "no message"
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        text = f"{what}: {code}: {detail}"
        if code in _THROTTLED or status == 429 or status >= 500:
            raise Unavailable(text) from error
        raise StreamError(
            f"{text}; check that it exists, the region, and that this role or user may do this"
        ) from error
    except _NO_CREDENTIALS as error:
        raise StreamError(
            f"{what}: no usable AWS credentials: {error}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile or a task role (a local endpoint takes any)"
        ) from error
    except boto.BotoCoreError as error:
        raise Unavailable(f"{what}: {type(error).__name__}: {error}") from error


def fifo_id(text: str) -> str:
    """Return a FIFO id for any text: itself, or a digest where queues and topics do not take it."""
    return text if _FIFO_ID.fullmatch(text) else blake2b(text.encode(), digest_size=16).hexdigest()
