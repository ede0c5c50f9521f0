"""Requests of the Kinesis API as typed structs, one for each operation ("Actions", API reference).

Every member is optional here: a missing one is answered with AWS's validation error rather than
with a decoder's.
"""

from __future__ import annotations

import msgspec


class StreamRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """A request about one stream, given by name or ARN."""

    stream_name: str | None = None
    stream_arn: str | None = msgspec.field(name="StreamARN", default=None)


class NoMembers(msgspec.Struct):
    """A request without members."""


class StreamModeDetails(msgspec.Struct, rename="pascal"):
    """Capacity mode: PROVISIONED or ON_DEMAND."""

    stream_mode: str


class CreateStream(StreamRequest):
    """Create a stream."""

    shard_count: int | None = None
    stream_mode_details: StreamModeDetails | None = None
    max_record_size_in_kib: int | None = msgspec.field(name="MaxRecordSizeInKiB", default=None)


class DescribeStream(StreamRequest):
    """Describe a stream with a page of its shards."""

    limit: int | None = None
    exclusive_start_shard_id: str | None = None


class ListStreams(msgspec.Struct, rename="pascal"):
    """List streams by name."""

    limit: int | None = None
    exclusive_start_stream_name: str | None = None
    next_token: str | None = None


class ShardFilter(msgspec.Struct, rename="pascal"):
    """Which shards to list."""

    type: str | None = None
    shard_id: str | None = None
    timestamp: float | None = None


class ListShards(StreamRequest):
    """List shards; a page token stands for all but MaxResults."""

    next_token: str | None = None
    exclusive_start_shard_id: str | None = None
    max_results: int | None = None
    stream_creation_timestamp: float | None = None
    shard_filter: ShardFilter | None = None


class PutRecord(StreamRequest):
    """Put one record. `data` stays the base64 text that came in."""

    data: str | None = None
    partition_key: str | None = None
    explicit_hash_key: str | None = None
    sequence_number_for_ordering: str | None = None


class PutRecordsEntry(msgspec.Struct, rename="pascal", gc=False):
    """One record of a PutRecords request."""

    data: str | None = None
    partition_key: str | None = None
    explicit_hash_key: str | None = None


class PutRecords(StreamRequest):
    """Put up to 500 records."""

    records: list[PutRecordsEntry] | None = None


class GetShardIterator(StreamRequest):
    """Get an iterator for a place in a shard."""

    shard_id: str | None = None
    shard_iterator_type: str | None = None
    starting_sequence_number: str | None = None
    timestamp: float | None = None


class GetRecords(msgspec.Struct, rename="pascal"):
    """Read records from an iterator on."""

    shard_iterator: str | None = None
    limit: int | None = None
    stream_arn: str | None = msgspec.field(name="StreamARN", default=None)


class RegisterStreamConsumer(StreamRequest):
    """Register a consumer with enhanced fan-out."""

    consumer_name: str | None = None


class StreamConsumer(StreamRequest):
    """Describe or deregister a consumer, given by ARN or by stream and name."""

    consumer_arn: str | None = msgspec.field(name="ConsumerARN", default=None)
    consumer_name: str | None = None


class ListStreamConsumers(StreamRequest):
    """List the consumers of a stream."""

    max_results: int | None = None
    next_token: str | None = None


class StartingPosition(msgspec.Struct, rename="pascal"):
    """Where a subscription begins."""

    type: str | None = None
    sequence_number: str | None = None
    timestamp: float | None = None


class SubscribeToShard(msgspec.Struct, rename="pascal"):
    """Have a shard's records pushed."""

    consumer_arn: str | None = msgspec.field(name="ConsumerARN", default=None)
    shard_id: str | None = None
    starting_position: StartingPosition | None = None


class SplitShard(StreamRequest):
    """Split a shard in two."""

    shard_to_split: str | None = None
    new_starting_hash_key: str | None = None


class MergeShards(StreamRequest):
    """Merge two adjacent shards."""

    shard_to_merge: str | None = None
    adjacent_shard_to_merge: str | None = None


class UpdateShardCount(StreamRequest):
    """Change the number of shards."""

    target_shard_count: int | None = None
    scaling_type: str | None = None


class ChangeRetention(StreamRequest):
    """Increase or decrease the retention period."""

    retention_period_hours: int | None = None
