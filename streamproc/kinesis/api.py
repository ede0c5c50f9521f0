"""The seam to Kinesis: the calls this package needs, small enough to fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from streamproc.kinesis.codec import GetRecordsResult
from streamproc.kinesis.lineage import ShardInfo
from streamproc.position import Position

__all__ = ["KinesisApi", "PutEntry", "PutResult", "StreamSummary"]


class StreamSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What DescribeStreamSummary tells of a stream.

    `status` is CREATING, ACTIVE, UPDATING or DELETING; `creation_timestamp` is in seconds since
    the epoch; `encryption` is NONE or KMS.
    """

    name: str
    status: str
    arn: str
    retention_hours: int
    creation_timestamp: float
    open_shard_count: int
    encryption: str


class PutEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record to put; at most 1 MiB of data and key together unless the stream allows more."""

    data: bytes
    partition_key: str
    explicit_hash_key: str | None = None


class PutResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entry: a sequence number, or an error code that allows another try."""

    shard_id: str | None = None
    sequence_number: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class KinesisApi(Protocol):
    """One stream's Kinesis API.

    Every method raises `StreamError` when Kinesis refuses for good, `NotFoundError` among them when
    the stream or the shard does not exist, and `ThrottledError` or `TransientError` when the call
    may be made again.
    """

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        """Read up to `limit` records from `iterator` on.

        Raises:
            ExpiredIteratorError: the iterator is older than five minutes or otherwise useless.
        """
        ...

    async def shard_iterator(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> str:
        """Return an iterator for what follows `position` in a shard.

        With `inclusive`, a sequence number's own record comes first: it may be an aggregate of
        which only the beginning was passed.
        """
        ...

    async def list_shards(self, at: Position | None = None) -> list[ShardInfo]:
        """Return all shards, open and closed, that the stream still has.

        Args:
            at: a sentinel (TRIM_HORIZON, LATEST, AT_TIMESTAMP): only the shards that were open
                then, which are those that a group that begins there is to read first.
        """
        ...

    async def describe_stream(self) -> StreamSummary:
        """Return what the stream is."""
        ...

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        """Put up to 500 records; one result for each, in their order."""
        ...
