"""Operations that read records: iterators and GetRecords, the hottest path of the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from streamproc.testing.localkinesis import cbor, errors, limits, requests, sequence, tokens
from streamproc.testing.localkinesis.account import READABLE, Account
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream
from streamproc.testing.localkinesis.stream_operations import hash_key_range

_SEQUENCE_ITERATORS = frozenset({"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"})


def get_shard_iterator(account: Account, request: requests.GetShardIterator) -> dict[str, str]:
    """Get an iterator for a place in a shard ("GetShardIterator" page)."""
    now_ms = account.now_ms()
    if request.shard_id is None:
        raise errors.missing("shardId")
    if request.shard_iterator_type is None:
        raise errors.missing("shardIteratorType")
    stream = account.readable_stream(request, now_ms)
    shard = stream.shards.get(request.shard_id)
    if shard is None:
        raise errors.KinesisError(
            "ResourceNotFoundException",
            f"Shard {request.shard_id} in stream {stream.name} under account {account.id} does not "
            f"exist",
        )
    shard.trim(stream.horizon_ms(now_ms))
    check_starting_point(request)
    position = start_position(account, stream, shard, request, now_ms)
    return {"ShardIterator": _iterator(stream, shard, position, now_ms)}


class _Page(NamedTuple):
    """What GetRecords answers with.

    `fragments` are the records as JSON and `arrivals_ms` when each arrived; `iterator` is None, and
    `children` is ChildShards as JSON, at a closed shard's end.
    """

    fragments: list[bytes]
    arrivals_ms: Sequence[int]
    iterator: str | None
    children: str | None
    behind_ms: int


def get_records(account: Account, request: requests.GetRecords) -> bytes:
    """Read records from an iterator on ("GetRecords" page).

    The answer that reaches the end of a closed shard has a null NextShardIterator and ChildShards.
    """
    page = _read(account, request)
    fragments = page.fragments
    if page.iterator is not None:
        tail = f'],"NextShardIterator":"{page.iterator}"'
    else:
        tail = f'],"NextShardIterator":null,"ChildShards":{page.children}'
    tail += f',"MillisBehindLatest":{page.behind_ms}}}'
    if not fragments:
        return b'{"Records":[' + tail.encode()
    # Head and tail ride on the outermost fragments: then the join is the only copy of the body.
    fragments[0] = b'{"Records":[' + fragments[0]
    fragments[-1] += tail.encode()
    return b",".join(fragments)


def get_records_in_cbor(account: Account, request: requests.GetRecords) -> bytes:
    """Do the same, and answer in CBOR."""
    page = _read(account, request)
    return cbor.encode_records(
        page.fragments,
        page.arrivals_ms,
        page.iterator,
        page.behind_ms,
        None if page.children is None else msgspec.json.decode(page.children),
    )


def _read(account: Account, request: requests.GetRecords) -> _Page:
    now_ms = account.now_ms()
    limit = request.limit
    if limit is None:
        limit = limits.GET_RECORDS_MAX_COUNT
    elif not 1 <= limit <= limits.GET_RECORDS_MAX_COUNT:
        raise errors.validation(
            "limit", limit, f"Member must have value between 1 and {limits.GET_RECORDS_MAX_COUNT}"
        )
    stream, shard, token = _open_iterator(account, request, now_ms)
    throttle = account.throttle(shard)
    if throttle is not None and not throttle.admit_read(now_ms):
        raise errors.rate_exceeded(shard.id, stream.name, account.id)
    shard.trim(stream.horizon_ms(now_ms))
    position = max(token.position, shard.first)
    fragments = shard.read(position, limit, limits.GET_RECORDS_MAX_BYTES)
    following = position + len(fragments)
    if throttle is not None and fragments:
        throttle.charge_read(shard.bytes_between(position, following))
    # Zero means "no new records to process at this moment", so a reader behind never sees it.
    behind_ms = 0 if following >= shard.tip else max(1, now_ms - shard.arrival_at(following))
    goes_on = shard.is_open or following < shard.tip
    return _Page(
        fragments,
        shard.arrivals_between(position, following),
        _iterator(stream, shard, following, now_ms) if goes_on else None,
        None if goes_on else child_shards(stream, shard),
        behind_ms,
    )


def iterator_shard(iterator: str | None) -> str | None:
    """Return the id of the shard that an iterator is about, if it is one."""
    token = tokens.decode(iterator) if iterator else None
    return token.shard_id if isinstance(token, tokens.IteratorToken) else None


def check_starting_point(request: requests.GetShardIterator) -> None:
    """Refuse a starting sequence number that is missing, or given where it means nothing."""
    kind, given = request.shard_iterator_type, request.starting_sequence_number is not None
    wanted = kind in _SEQUENCE_ITERATORS
    if given != wanted:
        found = "also a" if given else "no"
        raise errors.invalid_argument(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
            "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST or AT_TIMESTAMP and no "
            f"StartingSequenceNumber. Request specified {kind} and {found} StartingSequenceNumber."
        )


def start_position(
    account: Account,
    stream: Stream,
    shard: Shard,
    request: requests.GetShardIterator,
    now_ms: int,
) -> int:
    """Return the position in the shard that a request for an iterator names."""
    match request.shard_iterator_type:
        case "TRIM_HORIZON":
            return shard.first
        case "LATEST":
            return shard.tip
        case "AT_TIMESTAMP":
            return shard.position_at_time(_start_time_ms(request, now_ms))
        case "AT_SEQUENCE_NUMBER":
            return max(0, _counter(account, stream, shard, request) - 1)
        case "AFTER_SEQUENCE_NUMBER":
            return _counter(account, stream, shard, request)
        case other:
            raise errors.validation(
                "shardIteratorType",
                other,
                "Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, "
                "AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
            )


def _start_time_ms(request: requests.GetShardIterator, now_ms: int) -> int:
    if request.timestamp is None:
        raise errors.invalid_argument(
            "Must specify timestamp parameter for iterator of type AT_TIMESTAMP."
        )
    time_ms = round(request.timestamp * 1000)
    if time_ms > now_ms:
        raise errors.invalid_argument(
            f"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
            f"timestampInMillis: {time_ms}, currentTimestampInMillis: {now_ms}"
        )
    return time_ms


def _counter(
    account: Account, stream: Stream, shard: Shard, request: requests.GetShardIterator
) -> int:
    """Return the counter in a starting sequence number, which must be of this very shard."""
    text = request.starting_sequence_number or ""
    parts = sequence.decode(text)
    if parts is not None and parts.shard_index != shard.index:
        raise errors.invalid_argument(
            f"Invalid StartingSequenceNumber. It encodes shardId-{parts.shard_index:012d}, while "
            f"it was used in a call to a shard with {shard.id} (stream {stream.name})."
        )
    if (
        parts is None
        or parts.epoch != shard.epoch
        # One above the tip is the ending number of a closed shard.
        or parts.counter > shard.tip + 1
    ):
        raise errors.invalid_argument(
            f"StartingSequenceNumber {text} used in GetShardIterator on shard {shard.id} in stream "
            f"{stream.name} under account {account.id} is invalid because it did not come from "
            f"this stream."
        )
    return min(parts.counter, shard.tip)


def _iterator(stream: Stream, shard: Shard, position: int, now_ms: int) -> str:
    return tokens.encode(
        tokens.IteratorToken(stream.name, stream.incarnation, shard.id, position, now_ms)
    )


def _open_iterator(
    account: Account, request: requests.GetRecords, now_ms: int
) -> tuple[Stream, Shard, tokens.IteratorToken]:
    if request.shard_iterator is None:
        raise errors.missing("shardIterator")
    token = tokens.decode(request.shard_iterator)
    if not isinstance(token, tokens.IteratorToken):
        raise errors.invalid_argument("Invalid ShardIterator.")
    stream = account.stream_named(token.stream, now_ms)
    if stream.status not in READABLE:
        raise errors.stream_not_found(stream.name, account.id)
    if stream.incarnation != token.incarnation:
        raise errors.invalid_argument(
            f"Invalid ShardIterator: stream {stream.name} was deleted and created anew."
        )
    if request.stream_arn is not None and request.stream_arn != stream.arn:
        raise errors.invalid_argument(
            f"StreamARN {request.stream_arn} is not that of the ShardIterator's stream."
        )
    if now_ms - token.issued_ms > limits.ITERATOR_LIFETIME_MS:
        raise errors.KinesisError(
            "ExpiredIteratorException",
            f"Iterator expired. The iterator was created at time {_clock_text(token.issued_ms)} "
            f"while right now it is {_clock_text(now_ms)} which is further in the future than the "
            f"tolerated delay of {limits.ITERATOR_LIFETIME_MS} milliseconds.",
        )
    return stream, account.shard(stream, token.shard_id), token


def _clock_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")


def child_shards(stream: Stream, shard: Shard) -> str:
    """Return the JSON of what a closed shard was split or merged into."""
    children = [
        {
            "ShardId": child.id,
            "ParentShards": [p for p in (child.parent, child.adjacent_parent) if p is not None],
            "HashKeyRange": hash_key_range(child),
        }
        for child in stream.children(shard)
    ]
    return msgspec.json.encode(children).decode()
