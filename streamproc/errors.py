"""Every error this package raises on purpose.

StreamprocError
├── ConfigError        the configuration is wrong; names the key and what to write instead
├── StreamError        Kinesis refuses: no such stream, wrong credentials, unreadable answer
│   └── StreamRecreated    the stream was deleted and created again under its name
├── StateStoreError    Redis is away, read-only, still loading, or timed out: try again later
│   └── TooFewReplicas     a commit is not yet on as many replicas as it must be
├── StateLost          Redis is another one than the group's, or has forgotten its shards
├── Fenced             a newer owner of the shard has committed; this one must stop
├── LeaseStoreError    the lease store is away or refuses: try again later
├── ProcessorError     a plugin is declared wrongly (found when it is loaded)
├── ContextClosed      a handler used its context after its call was over
├── DecodeError        a record is not an event of a known type and version
└── PolicySignal       raised by handlers to choose what happens to an event
    ├── Reject             to the dead letters, now
    └── Retry              again, after a delay
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ContextClosed",
    "DecodeError",
    "Fenced",
    "LeaseStoreError",
    "PolicySignal",
    "ProcessorError",
    "Reject",
    "Retry",
    "StateLost",
    "StateStoreError",
    "StreamError",
    "StreamRecreated",
    "StreamprocError",
    "TooFewReplicas",
]


class StreamprocError(Exception):
    """The base of every error raised by this package."""


class ConfigError(StreamprocError):
    """The configuration cannot be used; the message names the key and the remedy."""


class StreamError(StreamprocError):
    """Kinesis refuses the request for good: no such stream, access denied, bad credentials."""


class StreamRecreated(StreamError):
    """The leases and positions belong to an earlier stream of this name."""


class StateStoreError(StreamprocError):
    """Redis cannot serve the request now; nothing was lost, and the caller tries again."""


class TooFewReplicas(StateStoreError):
    """A commit was applied, but too few replicas have acknowledged it in time."""


class StateLost(StreamprocError):
    """Redis no longer holds the state that the leases' checkpoints were written against."""


class Fenced(StreamprocError):
    """A newer owner of the shard exists, so this owner's writes are refused from now on.

    Attributes:
        epoch: the newer owner's epoch, as Redis holds it.
    """

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


class LeaseStoreError(StreamprocError):
    """The lease store cannot serve the request now; the caller tries again."""


class ProcessorError(StreamprocError):
    """A processor plugin is declared wrongly or cannot be loaded."""


class ContextClosed(StreamprocError):
    """A context was used after its call was over; nothing that is done there takes effect."""


class DecodeError(StreamprocError):
    """A record's data is not an event of a known type and version.

    Attributes:
        reason: a short, stable word for metrics and dead letters, such as ``bad-json``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PolicySignal(StreamprocError):
    """The base of what a handler raises to choose an event's fate itself."""


class Reject(PolicySignal):
    """Raise in a handler to send the event to the dead letters at once, without retries."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(PolicySignal):
    """Raise in a handler to have the event tried again; it still counts as an attempt.

    Args:
        after: seconds to wait before the next attempt; the policy's backoff when None.
    """

    def __init__(self, after: float | None = None) -> None:
        super().__init__("retry" if after is None else f"retry after {after:g} s")
        self.after = after
