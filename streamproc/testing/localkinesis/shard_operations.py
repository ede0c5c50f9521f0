"""Operations on a stream's shards: list, split, merge, resize."""

from __future__ import annotations

from typing import Any

from streamproc.testing.localkinesis import errors, limits, requests, routing, tokens
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream, StreamStatus
from streamproc.testing.localkinesis.stream_operations import (
    check_range,
    describe_shard,
    read_page_token,
)

_TIME_FILTERS = frozenset({"AT_TIMESTAMP", "FROM_TIMESTAMP"})
_FILTERS = _TIME_FILTERS | {"AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST"}


def list_shards(account: Account, request: requests.ListShards) -> dict[str, Any]:
    """List shards that pass a filter, page by page ("ListShards" page)."""
    now_ms = account.now_ms()
    limit = check_range(
        "maxResults",
        request.max_results,
        limits.LIST_SHARDS_DEFAULT_RESULTS,
        limits.LIST_MAX_RESULTS,
    )
    stream, page = _page(account, request, now_ms)
    if stream.status in (StreamStatus.CREATING, StreamStatus.DELETING):
        raise errors.stream_not_active(stream.name, account.id, stream.status)
    following = [shard for shard in _filtered(stream, page, now_ms) if shard.id > page.after]
    reply: dict[str, Any] = {"Shards": [describe_shard(shard) for shard in following[:limit]]}
    if len(following) > limit:
        page.after = following[limit - 1].id
        page.issued_ms = now_ms
        reply["NextToken"] = tokens.encode(page)
    return reply


def split_shard(account: Account, request: requests.SplitShard) -> None:
    """Split a shard at a hash key ("SplitShard" page)."""
    now_ms = account.now_ms()
    if request.shard_to_split is None:
        raise errors.missing("shardToSplit")
    if request.new_starting_hash_key is None:
        raise errors.missing("newStartingHashKey")
    stream = account.active_stream(request, now_ms)
    shard = _open_shard(account, stream, request.shard_to_split)
    new_start = routing.parse_hash_key(request.new_starting_hash_key)
    if new_start is None:
        raise errors.validation(
            "newStartingHashKey",
            request.new_starting_hash_key,
            "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
        )
    if not shard.start_hash + 1 < new_start < shard.end_hash:
        raise errors.invalid_argument(
            f"NewStartingHashKey {new_start} used in SplitShard() on shard {shard.id} in stream "
            f"{stream.name} under account {account.id} is not both greater than one plus the "
            f"shard's StartingHashKey {shard.start_hash} and less than the shard's EndingHashKey "
            f"{shard.end_hash}."
        )
    account.check_shard_limit(1)
    account.transition(
        stream, StreamStatus.UPDATING, now_ms, lambda due: stream.split(shard, new_start, due)
    )


def merge_shards(account: Account, request: requests.MergeShards) -> None:
    """Merge two adjacent shards ("MergeShards" page)."""
    now_ms = account.now_ms()
    if request.shard_to_merge is None:
        raise errors.missing("shardToMerge")
    if request.adjacent_shard_to_merge is None:
        raise errors.missing("adjacentShardToMerge")
    stream = account.active_stream(request, now_ms)
    shard = _open_shard(account, stream, request.shard_to_merge)
    adjacent = _open_shard(account, stream, request.adjacent_shard_to_merge)
    # The lower of the two must be named first: AWS refuses the inverse as well.
    if shard.end_hash + 1 != adjacent.start_hash:
        raise errors.invalid_argument(
            f"Shards {shard.id} and {adjacent.id} in stream {stream.name} under account "
            f"{account.id} are not an adjacent pair of shards eligible for merging"
        )
    account.transition(
        stream, StreamStatus.UPDATING, now_ms, lambda due: stream.merge(shard, adjacent, due)
    )


def update_shard_count(account: Account, request: requests.UpdateShardCount) -> dict[str, Any]:
    """Reach a number of shards of equal width ("UpdateShardCount" page)."""
    now_ms = account.now_ms()
    target = request.target_shard_count
    if target is None:
        raise errors.missing("targetShardCount")
    if request.scaling_type != "UNIFORM_SCALING":
        raise errors.validation(
            "scalingType",
            request.scaling_type,
            "Member must satisfy enum value set: [UNIFORM_SCALING]",
        )
    if target < 1:
        raise errors.validation(
            "targetShardCount", target, "Member must have value greater than or equal to 1"
        )
    stream = account.active_stream(request, now_ms)
    if stream.on_demand:
        raise errors.KinesisError(
            "ValidationException",
            f"UpdateShardCount is not supported for stream {stream.name} in ON_DEMAND mode.",
        )
    current = stream.open_count
    if target > 2 * current:
        raise errors.invalid_argument(
            "UpdateShardCount cannot scale up over double your current open shard count. "
            f"Current open shard count: {current} Target shard count: {target}"
        )
    if 2 * target < current:
        raise errors.invalid_argument(
            "UpdateShardCount cannot scale down below half your current open shard count. "
            f"Current open shard count: {current} Target shard count: {target}"
        )
    if target > limits.UPDATE_SHARD_COUNT_MAX:
        raise errors.limit_exceeded(
            f"UpdateShardCount of stream {stream.name} cannot exceed "
            f"{limits.UPDATE_SHARD_COUNT_MAX} shards."
        )
    account.check_shard_limit(target - current)
    account.transition(
        stream, StreamStatus.UPDATING, now_ms, lambda due: stream.resize(target, due)
    )
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardCount": current,
        "TargetShardCount": target,
    }


def _page(
    account: Account, request: requests.ListShards, now_ms: int
) -> tuple[Stream, tokens.PageToken]:
    if request.next_token is None:
        stream = account.stream(request, now_ms)
        return stream, _first_page(stream, request, now_ms)
    for name, value in (
        ("StreamName", request.stream_name),
        ("StreamCreationTimestamp", request.stream_creation_timestamp),
        ("ExclusiveStartShardId", request.exclusive_start_shard_id),
        ("ShardFilter", request.shard_filter),
    ):
        if value is not None:
            raise errors.invalid_argument(f"NextToken and {name} cannot be provided together.")
    page = read_page_token(request.next_token, now_ms)
    stream = account.stream_named(page.stream, now_ms)
    if stream.incarnation != page.incarnation:
        raise errors.stream_not_found(page.stream, account.id)
    return stream, page


def _first_page(stream: Stream, request: requests.ListShards, now_ms: int) -> tokens.PageToken:
    chosen = request.shard_filter or requests.ShardFilter("FROM_TRIM_HORIZON")
    if chosen.type not in _FILTERS:
        raise errors.validation(
            "shardFilter.type",
            chosen.type,
            f"Member must satisfy enum value set: [{', '.join(sorted(_FILTERS))}]",
        )
    if (chosen.type == "AFTER_SHARD_ID") != (chosen.shard_id is not None):
        raise errors.invalid_argument(
            "ShardFilter.ShardId must be given with type AFTER_SHARD_ID, and only then."
        )
    if (chosen.type in _TIME_FILTERS) != (chosen.timestamp is not None):
        raise errors.invalid_argument(
            "ShardFilter.Timestamp must be given with types AT_TIMESTAMP and FROM_TIMESTAMP, and "
            "only then."
        )
    return tokens.PageToken(
        stream=stream.name,
        incarnation=stream.incarnation,
        after=request.exclusive_start_shard_id or "",
        issued_ms=now_ms,
        filter_type=chosen.type,
        filter_shard_id=chosen.shard_id,
        filter_time_ms=None if chosen.timestamp is None else round(chosen.timestamp * 1000),
    )


def _filtered(stream: Stream, page: tokens.PageToken, now_ms: int) -> list[Shard]:
    """Apply a filter as the "ShardFilter" page defines it."""
    shards = list(stream.shards.values())
    # Times before the trim horizon count as TRIM_HORIZON.
    time_ms = page.filter_time_ms or 0
    beyond_horizon = time_ms < max(stream.horizon_ms(now_ms), stream.created_ms)
    match page.filter_type:
        case "AT_LATEST":
            return [shard for shard in shards if shard.is_open]
        case "AFTER_SHARD_ID":
            return [shard for shard in shards if shard.id > (page.filter_shard_id or "")]
        case "AT_TRIM_HORIZON":
            return stream.at_trim_horizon()
        case "AT_TIMESTAMP" if beyond_horizon:
            return stream.at_trim_horizon()
        case "AT_TIMESTAMP":
            return [s for s in shards if s.created_ms <= time_ms and _ends_at_or_after(s, time_ms)]
        case "FROM_TIMESTAMP" if not beyond_horizon:
            return [shard for shard in shards if _ends_at_or_after(shard, time_ms)]
        case _:
            return shards


def _ends_at_or_after(shard: Shard, time_ms: int) -> bool:
    return shard.closed_ms is None or shard.closed_ms >= time_ms


def _open_shard(account: Account, stream: Stream, shard_id: str) -> Shard:
    shard = account.shard(stream, shard_id)
    if not shard.is_open:
        raise errors.KinesisError(
            "ResourceInUseException",
            f"Shard {shard.id} in stream {stream.name} under account {account.id} has already been "
            f"merged or split, and thus is not eligible for merging or splitting.",
        )
    return shard
