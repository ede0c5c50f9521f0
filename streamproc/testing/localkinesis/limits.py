"""Limits and periods of Kinesis Data Streams, each with the AWS page it comes from."""

from __future__ import annotations

MIB = 1024 * 1024

# "PutRecords" (API reference): 500 records, 10 MiB for the entire request, partition keys included.
PUT_RECORDS_MAX_COUNT = 500
PUT_RECORDS_MAX_BYTES = 10 * MIB

# "PutRecord" (API reference): 1 MiB of data and partition key, unless the stream's
# MaxRecordSizeInKiB ("CreateStream") says more, at most 10 MiB.
RECORD_MAX_BYTES = MIB
RECORD_MAX_KIB_RANGE = (1024, 10240)
PARTITION_KEY_MAX_CHARS = 256

# "GetRecords" (API reference).
GET_RECORDS_MAX_COUNT = 10_000
GET_RECORDS_MAX_BYTES = 10 * MIB
ITERATOR_LIFETIME_MS = 300_000

# "ListShards" (API reference): a NextToken lives 300 seconds.
NEXT_TOKEN_LIFETIME_MS = 300_000
LIST_MAX_RESULTS = 10_000
LIST_SHARDS_DEFAULT_RESULTS = 1_000
DESCRIBE_STREAM_DEFAULT_LIMIT = 100
LIST_STREAMS_DEFAULT_LIMIT = 100

# "Quotas and limits" (developer guide), a shard: 1 MB/s or 1,000 records/s in; 2 MB/s out and
# five read transactions a second.
SHARD_IN_BYTES_PER_S = MIB
SHARD_IN_RECORDS_PER_S = 1_000
SHARD_OUT_BYTES_PER_S = 2 * MIB
SHARD_READS_PER_S = 5

# "IncreaseStreamRetentionPeriod" / "DecreaseStreamRetentionPeriod": 24 hours to 365 days.
RETENTION_MIN_HOURS = 24
RETENTION_MAX_HOURS = 8760
HOUR_MS = 3_600_000

# "RegisterStreamConsumer": twenty consumers a stream.
CONSUMERS_PER_STREAM = 20
# "SubscribeToShard": a connection lives five minutes; a second call for the same consumer and shard
# is refused within five seconds of the first, and takes over after that.
SUBSCRIPTION_LIFETIME_MS = 300_000
SUBSCRIPTION_TAKE_OVER_MS = 5_000
# Observed: an idle subscription gets an empty event about every five seconds.
SUBSCRIPTION_HEARTBEAT_MS = 5_000
# "SubscribeToShardEvent": the page gives no size; a consumer has 2 MB/s a shard.
SUBSCRIPTION_EVENT_BYTES = MIB

# "UpdateShardCount": at most 10,000 shards by one call.
UPDATE_SHARD_COUNT_MAX = 10_000
# "StreamModeDetails": an on-demand stream starts with four shards.
ON_DEMAND_SHARDS = 4
