"""What Kinesis calls can end in, and which error of botocore means which.

StreamprocError
├── KinesisError           the call failed; the reader copes
│   ├── ThrottledError         over a limit of the shard, the stream or its key: wait longer
│   ├── ExpiredIteratorError   the iterator cannot be used (any more): ask for another
│   ├── ReaderClosedError      nothing more comes from this reader
│   └── TransientError         5xx, timeout, reset, no connection: try again
│       └── MalformedResponseError   the answer cannot be read or contradicts itself: try again
├── FanOutUnavailableError subscriptions keep failing: poll
└── StreamError            refused for good
    ├── NotFoundError          no such stream, or no such shard in it
    └── InvalidArgumentError   a value Kinesis does not take, such as another stream's number

Codes are those of the API pages ("Errors" of each action, and "Common Errors"); botocore's own
exceptions stand for what never reached Kinesis.
"""

from __future__ import annotations

from typing import Any, Final

import botocore.exceptions as boto
import msgspec

from streamproc.errors import StreamError, StreamprocError

__all__ = [
    "ExpiredIteratorError",
    "FanOutUnavailableError",
    "InvalidArgumentError",
    "KinesisError",
    "MalformedResponseError",
    "NotFoundError",
    "ReaderClosedError",
    "Target",
    "ThrottledError",
    "TransientError",
    "client_error",
    "typed_error",
]


class KinesisError(StreamprocError):
    """A Kinesis call failed in a way that asking again, or otherwise, can mend."""


class ThrottledError(KinesisError):
    """A rate limit refused the call."""


class ExpiredIteratorError(KinesisError):
    """Kinesis no longer takes the iterator, or token, that was sent."""


class ReaderClosedError(KinesisError):
    """The reader was closed or cancelled, so waiting for its next batch is in vain."""


class TransientError(KinesisError):
    """The call failed on the way or inside Kinesis."""


class MalformedResponseError(TransientError):
    """An answer with status 200 is cut off, is not what the API promises, or contradicts itself."""


class FanOutUnavailableError(StreamprocError):
    """Records cannot be had by enhanced fan-out now, but perhaps by polling."""


class NotFoundError(StreamError):
    """The stream does not exist, or the shard asked for does not exist in it."""


class InvalidArgumentError(StreamError):
    """Kinesis does not take a value, such as a sequence number of another stream."""


class Target(msgspec.Struct, frozen=True):
    """Whom calls go to, for messages."""

    stream: str
    region: str
    endpoint_url: str

    def __str__(self) -> str:
        return f"stream {self.stream!r} in {self.region} at {self.endpoint_url}"


_THROTTLED: Final = frozenset(
    {
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_TRANSIENT: Final = frozenset(
    {
        "InternalFailure",
        "InternalFailureException",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        # The stream is being created or changed; that ends by itself.
        "ResourceInUseException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
_ADVICE: Final = {
    "AccessDeniedException": (
        "allow kinesis:GetRecords, GetShardIterator, ListShards and DescribeStreamSummary on the "
        "stream to this role or user"
    ),
    "ExpiredTokenException": "renew the temporary credentials",
    "IncompleteSignature": "check the credentials and what stands between here and AWS",
    "InvalidSignatureException": "check the secret access key and this host's clock",
    "MissingAuthenticationTokenException": "give credentials; the request had none",
    "OptInRequired": "subscribe the account to Kinesis",
    "RequestExpired": "check this host's clock",
    "UnrecognizedClientException": "check the access key id, the session token and the region",
    "KMSAccessDeniedException": "allow kms:Decrypt on the stream's key to this role or user",
    "KMSDisabledException": "enable the stream's KMS key",
    "KMSInvalidStateException": "bring the stream's KMS key back into the state Enabled",
    "KMSNotFoundException": "restore the stream's KMS key or give the stream another one",
    "KMSOptInRequired": "subscribe the account to KMS",
}
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.TokenRetrievalError,
)


def client_error(operation: str, status: int, body: bytes, code: str = "") -> boto.ClientError:
    """Return what botocore would have raised for an error answer (JSON 1.1 protocol).

    Args:
        operation: the API action.
        status: the HTTP status.
        body: JSON with `__type` and `message`, or whatever a proxy sent.
        code: the error code, where it stands elsewhere.
    """
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        told = {}  # A load balancer's page, or nothing: the status says what there is to know.
    return boto.ClientError(
        {
            "Error": {
                "Code": code or str(told.get("__type", status)).rpartition("#")[2],
                "Message": str(told.get("message", told.get("Message", ""))),
            },
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        operation,
    )


def typed_error(
    error: boto.ClientError | boto.BotoCoreError, operation: str, target: Target
) -> StreamprocError:
    """Translate what botocore raised from `operation` into this package's errors.

    Args:
        error: the exception.
        operation: the API action with its shard, if any, such as ``GetRecords of shardId-…``.
        target: whom the call was meant for.
    """
    if isinstance(error, boto.ClientError):
        return _from_answer(error, operation, target)
    where = f"{operation}, {target}"
    if isinstance(error, _NO_CREDENTIALS):
        return StreamError(
            f"{where}: no usable AWS credentials: {error}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile or a task role (a local endpoint takes any)"
        )
    if _is_certificate_error(error):
        return StreamError(
            f"{where}: the endpoint's certificate is refused: {error}; check stream.endpoint_url, "
            "or name the right authority in AWS_CA_BUNDLE"
        )
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        return TransientError(
            f"{where}: cannot connect: {error}; check the network, the region and, if it is set, "
            "stream.endpoint_url"
        )
    # What is left is the network, an unreadable answer, or credentials whose source is away for
    # the moment (instance metadata): none of them is a reason to stop a worker.
    return TransientError(f"{where}: {type(error).__name__}: {error}")


def _from_answer(error: boto.ClientError, operation: str, target: Target) -> StreamprocError:
    answer: dict[str, Any] = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    detail = str(answer.get("Error", {}).get("Message", "")) or "no message"
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{operation}, {target}: {code}: {detail}"
    if code in _THROTTLED or status == 429:
        return ThrottledError(message)
    if code in _TRANSIENT or status >= 500:
        return TransientError(message)
    if code in ("ExpiredIteratorException", "ExpiredNextTokenException"):
        return ExpiredIteratorError(message)
    if code == "ResourceNotFoundException":
        return NotFoundError(
            f"{message}; check stream.name, the region and the account of the credentials"
        )
    if code in ("InvalidArgumentException", "ValidationException"):
        return InvalidArgumentError(message)
    advice = _ADVICE.get(code)
    return StreamError(f"{message}; {advice}" if advice else message)


def _is_certificate_error(error: boto.BotoCoreError) -> bool:
    cause = error.kwargs.get("error")
    return isinstance(error, boto.SSLError) and "Certificate" in type(cause).__name__
