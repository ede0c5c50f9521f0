"""Operations on whole streams: create, delete, describe, list, retention, limits."""

from __future__ import annotations

from itertools import islice
from typing import Any

from streamproc.testing.localkinesis import errors, limits, requests, tokens
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream, StreamStatus

_MODES = ("PROVISIONED", "ON_DEMAND")


def create_stream(account: Account, request: requests.CreateStream) -> None:
    """Create a stream ("CreateStream" page)."""
    now_ms = account.now_ms()
    if request.stream_name is None:
        raise errors.missing("streamName")
    name = account.stream_name(request)
    mode = request.stream_mode_details.stream_mode if request.stream_mode_details else _MODES[0]
    if mode not in _MODES:
        raise errors.validation(
            "streamModeDetails.streamMode", mode, f"Member must satisfy enum value set: {_MODES}"
        )
    on_demand = mode == "ON_DEMAND"
    if on_demand and request.shard_count is not None:
        raise errors.invalid_argument(
            f"ShardCount must not be given for stream {name} in ON_DEMAND mode."
        )
    count = limits.ON_DEMAND_SHARDS if on_demand else request.shard_count
    if count is None:
        raise errors.invalid_argument(f"ShardCount is required for stream {name}.")
    if count < 1:
        raise errors.validation(
            "shardCount", count, "Member must have value greater than or equal to 1"
        )
    low_kib, high_kib = limits.RECORD_MAX_KIB_RANGE
    max_kib = request.max_record_size_in_kib or low_kib
    if not low_kib <= max_kib <= high_kib:
        raise errors.validation(
            "maxRecordSizeInKiB", max_kib, f"Member must be between {low_kib} and {high_kib}"
        )
    account.settle_all(now_ms)
    if name in account.streams:
        raise errors.stream_exists(name, account.id)
    account.check_shard_limit(count)
    stream = Stream(
        name=name,
        arn=account.stream_arn(name),
        created_ms=now_ms,
        incarnation=account.next_incarnation(),
        next_epoch=account.next_epoch,
        on_demand=on_demand,
        record_max_bytes=max_kib * 1024,
    )
    account.streams[name] = stream
    account.transition(
        stream, StreamStatus.CREATING, now_ms, lambda due: stream.add_initial_shards(count, due)
    )


def delete_stream(account: Account, request: requests.StreamRequest) -> None:
    """Delete a stream with all its records ("DeleteStream" page)."""
    now_ms = account.now_ms()
    stream = account.stream(request, now_ms)
    if stream.status is not StreamStatus.DELETING:
        account.transition(stream, StreamStatus.DELETING, now_ms, lambda _: account.forget(stream))


def describe_stream(account: Account, request: requests.DescribeStream) -> dict[str, Any]:
    """Describe a stream with a page of its shards ("DescribeStream" page)."""
    stream = account.stream(request, account.now_ms())
    limit = check_range(
        "limit", request.limit, limits.DESCRIBE_STREAM_DEFAULT_LIMIT, limits.LIST_MAX_RESULTS
    )
    after = request.exclusive_start_shard_id
    following = [s for s in stream.shards.values() if after is None or s.id > after]
    return {
        "StreamDescription": _common_description(stream)
        | {
            "Shards": [describe_shard(shard) for shard in following[:limit]],
            "HasMoreShards": len(following) > limit,
        }
    }


def describe_stream_summary(account: Account, request: requests.StreamRequest) -> dict[str, Any]:
    """Describe a stream without its shards ("DescribeStreamSummary" page)."""
    stream = account.stream(request, account.now_ms())
    return {
        "StreamDescriptionSummary": _common_description(stream)
        | {
            "OpenShardCount": stream.open_count,
            "ConsumerCount": len(stream.consumers),
            "MaxRecordSizeInKiB": stream.record_max_bytes // 1024,
        }
    }


def list_streams(account: Account, request: requests.ListStreams) -> dict[str, Any]:
    """List stream names in order, page by page ("ListStreams" page)."""
    now_ms = account.now_ms()
    account.settle_all(now_ms)
    limit = check_range(
        "limit", request.limit, limits.LIST_STREAMS_DEFAULT_LIMIT, limits.LIST_MAX_RESULTS
    )
    after = request.exclusive_start_stream_name or ""
    if request.next_token is not None:
        after = read_page_token(request.next_token, now_ms).after
    following = (name for name in sorted(account.streams) if name > after)
    page = list(islice(following, limit))
    more = next(following, None) is not None
    summaries = [account.streams[name] for name in page]
    reply: dict[str, Any] = {
        "StreamNames": page,
        "HasMoreStreams": more,
        "StreamSummaries": [
            {
                "StreamName": stream.name,
                "StreamARN": stream.arn,
                "StreamStatus": stream.status,
                "StreamModeDetails": {"StreamMode": _MODES[stream.on_demand]},
                "StreamCreationTimestamp": stream.created_ms / 1000,
            }
            for stream in summaries
        ],
    }
    if more:
        reply["NextToken"] = tokens.encode(
            tokens.PageToken(stream="", incarnation=0, after=page[-1], issued_ms=now_ms)
        )
    return reply


def increase_retention(account: Account, request: requests.ChangeRetention) -> None:
    """Keep records longer ("IncreaseStreamRetentionPeriod" page)."""
    stream, hours = _retention_request(account, request)
    if hours < stream.retention_hours:
        raise errors.invalid_argument(
            f"Requested retention period ({hours} hours) for stream {stream.name} can not be "
            f"shorter than existing retention period ({stream.retention_hours} hours). "
            f"Use DecreaseRetentionPeriod API."
        )
    stream.retention_hours = hours


def decrease_retention(account: Account, request: requests.ChangeRetention) -> None:
    """Keep records for less long ("DecreaseStreamRetentionPeriod" page)."""
    stream, hours = _retention_request(account, request)
    if hours > stream.retention_hours:
        raise errors.invalid_argument(
            f"Requested retention period ({hours} hours) for stream {stream.name} can not be "
            f"longer than existing retention period ({stream.retention_hours} hours). "
            f"Use IncreaseRetentionPeriod API."
        )
    stream.retention_hours = hours


def describe_limits(account: Account, _request: requests.NoMembers) -> dict[str, Any]:
    """Describe the account's shard limits ("DescribeLimits" page)."""
    account.settle_all(account.now_ms())
    return {
        "ShardLimit": account.shard_limit,
        "OpenShardCount": account.open_shard_count(),
        "OnDemandStreamCount": sum(stream.on_demand for stream in account.streams.values()),
        "OnDemandStreamCountLimit": 50,
    }


def describe_shard(shard: Shard) -> dict[str, Any]:
    """Describe a shard as the "Shard" page has it; parents only if there are any."""
    sequence_range = {"StartingSequenceNumber": str(shard.starting_sequence)}
    ending = shard.ending_sequence
    if ending is not None:
        sequence_range["EndingSequenceNumber"] = str(ending)
    described: dict[str, Any] = {
        "ShardId": shard.id,
        "HashKeyRange": hash_key_range(shard),
        "SequenceNumberRange": sequence_range,
    }
    if shard.parent is not None:
        described["ParentShardId"] = shard.parent
    if shard.adjacent_parent is not None:
        described["AdjacentParentShardId"] = shard.adjacent_parent
    return described


def hash_key_range(shard: Shard) -> dict[str, str]:
    """Describe the hash keys that a shard takes, both ends inclusive."""
    return {"StartingHashKey": str(shard.start_hash), "EndingHashKey": str(shard.end_hash)}


def check_range(member: str, value: int | None, default: int, highest: int) -> int:
    """Return a page size between 1 and `highest`, or the default when none is given."""
    if value is None:
        return default
    if value < 1:
        raise errors.validation(member, value, "Member must have value greater than or equal to 1")
    if value > highest:
        raise errors.validation(
            member, value, f"Member must have value less than or equal to {highest}"
        )
    return value


def read_page_token(text: str, now_ms: int) -> tokens.PageToken:
    """Read a page token that must be ours and not too old."""
    token = tokens.decode(text)
    if not isinstance(token, tokens.PageToken):
        raise errors.invalid_argument("NextToken is invalid.")
    if now_ms - token.issued_ms > limits.NEXT_TOKEN_LIFETIME_MS:
        raise errors.KinesisError(
            "ExpiredNextTokenException",
            f"NextToken expired. It was made at {token.issued_ms} ms and it is {now_ms} ms now, "
            f"more than the tolerated {limits.NEXT_TOKEN_LIFETIME_MS} milliseconds.",
        )
    return token


def _common_description(stream: Stream) -> dict[str, Any]:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "StreamModeDetails": {"StreamMode": _MODES[stream.on_demand]},
        "RetentionPeriodHours": stream.retention_hours,
        "StreamCreationTimestamp": stream.created_ms / 1000,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }


def _retention_request(account: Account, request: requests.ChangeRetention) -> tuple[Stream, int]:
    stream = account.active_stream(request, account.now_ms())
    hours = request.retention_period_hours
    if hours is None:
        raise errors.missing("retentionPeriodHours")
    if not limits.RETENTION_MIN_HOURS <= hours <= limits.RETENTION_MAX_HOURS:
        raise errors.invalid_argument(
            f"Retention period of stream {stream.name} must be between "
            f"{limits.RETENTION_MIN_HOURS} and {limits.RETENTION_MAX_HOURS} hours, not {hours}."
        )
    return stream, hours
