"""Errors as Kinesis answers them: a code, a message that names stream and shard, an HTTP status.

    KinesisError
        one class for all; the code is data, as it is on the wire

The functions below hold the wording, kept close to what AWS answers.
"""

from __future__ import annotations

import msgspec


class KinesisError(Exception):
    """A failed operation, with the code and message that the client sees."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def body(self) -> bytes:
        """Encode the JSON body that goes over the wire."""
        return msgspec.json.encode({"__type": self.code, "message": self.message})


def stream_not_found(stream: str, account: str) -> KinesisError:
    """Say that no such stream exists (or that it is not readable in its state)."""
    return KinesisError(
        "ResourceNotFoundException", f"Stream {stream} under account {account} not found."
    )


def shard_not_found(shard: str, stream: str, account: str) -> KinesisError:
    """Say that the stream has no such shard."""
    return KinesisError(
        "ResourceNotFoundException",
        f"Could not find shard {shard} in stream {stream} under account {account}.",
    )


def stream_exists(stream: str, account: str) -> KinesisError:
    """Refuse to create a stream twice."""
    return KinesisError(
        "ResourceInUseException", f"Stream {stream} under account {account} already exists."
    )


def stream_not_active(stream: str, account: str, status: str) -> KinesisError:
    """Refuse an operation that needs an ACTIVE stream."""
    return KinesisError(
        "ResourceInUseException",
        f"Stream {stream} under account {account} not ACTIVE, instead in state {status}",
    )


def invalid_argument(message: str) -> KinesisError:
    """Refuse a value that is well formed but wrong."""
    return KinesisError("InvalidArgumentException", message)


def validation(member: str, value: object, constraint: str) -> KinesisError:
    """Refuse a value that breaks the API model, in the words of AWS's validator."""
    shown = "null" if value is None else f"'{value}'"
    return KinesisError(
        "ValidationException",
        f"1 validation error detected: Value {shown} at '{member}' failed to satisfy constraint: "
        f"{constraint}",
    )


def missing(member: str) -> KinesisError:
    """Refuse a request that lacks a required member."""
    return validation(member, None, "Member must not be null")


def rate_exceeded(shard: str, stream: str, account: str) -> KinesisError:
    """Throttle a shard."""
    return KinesisError(
        "ProvisionedThroughputExceededException",
        f"Rate exceeded for shard {shard} in stream {stream} under account {account}.",
    )


def limit_exceeded(message: str) -> KinesisError:
    """Refuse what would exceed an account's limits."""
    return KinesisError("LimitExceededException", message)
