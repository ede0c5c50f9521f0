"""Operations that put records: check, route, store in the form in which they will be served."""

from __future__ import annotations

import binascii

import msgspec

from streamproc.testing.localkinesis import errors, limits, requests, routing, sequence
from streamproc.testing.localkinesis.account import READABLE, Account
from streamproc.testing.localkinesis.faults import Faults
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream

_quote = msgspec.json.encode


def put_record(account: Account, request: requests.PutRecord, _faults: Faults) -> bytes:
    """Put one record ("PutRecord" page)."""
    now_ms = account.now_ms()
    stream = account.readable_stream(request, now_ms)
    hash_key, size = _check_record(stream, request, "")
    ordering = request.sequence_number_for_ordering
    # Ordering is what puts give anyway here, but a number that Kinesis never gave out is refused.
    if ordering is not None and sequence.decode(ordering) is None:
        raise errors.invalid_argument(
            f"SequenceNumberForOrdering {ordering} used in PutRecord on stream {stream.name} under "
            f"account {account.id} is invalid."
        )
    shard = stream.route(hash_key)
    throttle = account.throttle(shard)
    if throttle is not None and not throttle.admit_record(size, now_ms):
        raise errors.rate_exceeded(shard.id, stream.name, account.id)
    number = _append(shard, request, size, now_ms)
    return f'{{"SequenceNumber":"{number}","ShardId":"{shard.id}"}}'.encode()


def put_records(account: Account, request: requests.PutRecords, faults: Faults) -> bytes:
    """Put up to 500 records, each of which may fail on its own ("PutRecords" page)."""
    now_ms = account.now_ms()
    records = request.records
    if records is None:
        raise errors.missing("records")
    if not 1 <= len(records) <= limits.PUT_RECORDS_MAX_COUNT:
        raise errors.validation(
            "records",
            f"[{len(records)} records]",
            f"Member must have length between 1 and {limits.PUT_RECORDS_MAX_COUNT}",
        )
    stream = account.readable_stream(request, now_ms)
    checked = [
        _check_record(stream, record, f"records.{i}.member.") for i, record in enumerate(records, 1)
    ]
    total = sum(size for _, size in checked)
    if total > limits.PUT_RECORDS_MAX_BYTES:
        raise errors.invalid_argument(
            f"Records size exceeds 10 MB limit: {total} bytes for stream {stream.name}."
        )
    faulty = faults.active
    results: list[str] = []
    failed = 0
    for record, (hash_key, size) in zip(records, checked, strict=True):
        shard = stream.route(hash_key)
        failure = _record_failure(account, stream, shard, size, now_ms, faults if faulty else None)
        if failure is None:
            number = _append(shard, record, size, now_ms)
            results.append(f'{{"SequenceNumber":"{number}","ShardId":"{shard.id}"}}')
        else:
            failed += 1
            code, message = failure.code, _quote(failure.message).decode()
            results.append(f'{{"ErrorCode":"{code}","ErrorMessage":{message}}}')
    return f'{{"FailedRecordCount":{failed},"Records":[{",".join(results)}]}}'.encode()


def record_shard(account: Account, request: requests.PutRecord) -> str | None:
    """Return the id of the shard that a record would go to, if the request is in order."""
    name = request.stream_name or (request.stream_arn or "").rpartition("/")[2]
    stream = account.streams.get(name)
    if stream is None or stream.status not in READABLE or request.partition_key is None:
        return None
    hash_key = (
        routing.hash_partition_key(request.partition_key)
        if request.explicit_hash_key is None
        else routing.parse_hash_key(request.explicit_hash_key)
    )
    return None if hash_key is None else stream.route(hash_key).id


def _check_record(
    stream: Stream, record: requests.PutRecord | requests.PutRecordsEntry, where: str
) -> tuple[int, int]:
    """Return the hash key and the size in bytes (data and partition key) of a valid record."""
    data, key = record.data, record.partition_key
    if data is None:
        raise errors.missing(f"{where}data")
    if key is None:
        raise errors.missing(f"{where}partitionKey")
    if not 1 <= len(key) <= limits.PARTITION_KEY_MAX_CHARS:
        raise errors.validation(
            f"{where}partitionKey",
            key,
            f"Member must have length between 1 and {limits.PARTITION_KEY_MAX_CHARS}",
        )
    try:
        # Strict decoding is what makes the text safe to hand out again unchanged.
        data_bytes = len(binascii.a2b_base64(data, strict_mode=True))
    except ValueError as error:  # binascii.Error is one; so is text that is not ASCII
        raise errors.KinesisError(
            "SerializationException", f"{where}data is not valid base64: {error}"
        ) from error
    size = data_bytes + (len(key) if key.isascii() else len(key.encode()))
    if size > stream.record_max_bytes:
        raise errors.validation(
            f"{where}data",
            f"[{size} bytes with its partition key]",
            f"Member must have length less than or equal to {stream.record_max_bytes} "
            f"(stream {stream.name})",
        )
    if record.explicit_hash_key is None:
        return routing.hash_partition_key(key), size
    hash_key = routing.parse_hash_key(record.explicit_hash_key)
    if hash_key is None:
        raise errors.invalid_argument(
            f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "
            f"Specified value was {record.explicit_hash_key}"
        )
    return hash_key, size


def _record_failure(
    account: Account,
    stream: Stream,
    shard: Shard,
    size: int,
    now_ms: int,
    faults: Faults | None,
) -> errors.KinesisError | None:
    fault = faults.take_record_fault(shard.id) if faults is not None else None
    if fault is not None:
        return fault.error()
    throttle = account.throttle(shard)
    if throttle is not None and not throttle.admit_record(size, now_ms):
        return errors.rate_exceeded(shard.id, stream.name, account.id)
    return None


def _append(
    shard: Shard,
    record: requests.PutRecord | requests.PutRecordsEntry,
    size: int,
    now_ms: int,
) -> int:
    assert record.data is not None, "checked"
    assert record.partition_key is not None, "checked"
    return append_record(shard, record_rest(record.data, record.partition_key), size, now_ms)


def record_rest(data: str, partition_key: str) -> str:
    """Return what follows the arrival time in a record's JSON; `data` is base64."""
    return f'"Data":"{data}","PartitionKey":{_quote(partition_key).decode()}}}'


def append_record(shard: Shard, rest: str, size: int, now_ms: int) -> int:
    """Store a checked record as the JSON that GetRecords will answer with; return its number."""
    number = shard.next_sequence()
    arrival_ms = shard.next_arrival(now_ms)
    seconds, millis = divmod(arrival_ms, 1000)
    head = f'{{"SequenceNumber":"{number}","ApproximateArrivalTimestamp":{seconds}.{millis:03d},'
    shard.append((head + rest).encode(), size, arrival_ms)
    return number
