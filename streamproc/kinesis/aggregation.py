"""Unpacks records in which the Kinesis Producer Library (KPL) put several.

The format is the KPL's `aggregation-format.md`: four magic bytes, a protobuf message (proto2,
`messages.proto`), and the MD5 of that message. All sub-records share the record's sequence number
and arrival time; what tells them apart is their index, the sub-sequence number.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5
from typing import Any, Final

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from streamproc.kinesis.records import HashKeyRange, Record, hash_key

__all__ = ["KPL_MAGIC", "Deaggregated", "deaggregate"]

KPL_MAGIC: Final = b"\xf3\x89\x9a\xc2"
"""What an aggregate begins with. No JSON text and no Glue header begins so."""

_MD5_SIZE: Final = 16
_ALL_HASH_KEYS: Final = range(2**128)


class Deaggregated(msgspec.Struct, frozen=True):
    """What became of an answer's records.

    Attributes:
        records: user records in stream order; what is no sound aggregate stands as it came.
        aggregates: records that were unpacked.
        out_of_range: sub-records left out because their key belongs to another shard.
    """

    records: list[Record]
    aggregates: int = 0
    out_of_range: int = 0


def deaggregate(records: Sequence[Record], hash_range: HashKeyRange | None) -> Deaggregated:
    """Unpack every aggregate among `records`.

    When a shard was split meanwhile, sub-records may arrive in a shard that is not theirs. The KPL
    learns which those are and sends exactly them again (`retrier.cc`, v0.15.11 on), so they are
    left out here, one by one. KCL drops the whole aggregate, and with it those that nobody sends
    again (`AggregatorUtil.java`).

    Args:
        records: as GetRecords returned them.
        hash_range: the shard's; None keeps every sub-record: for aggregators other than the KPL,
            which never send again what went astray, or where the range is not known.
    """
    own = None if hash_range is None else _keys_of(hash_range)
    result: list[Record] = []
    aggregates = out_of_range = 0
    for record in records:
        message = _message(record.data) if record.data.startswith(KPL_MAGIC) else None
        subs = None if message is None else _unpack(record, message)
        if subs is None:
            result.append(record)
            continue
        aggregates += 1
        if own is not None:
            hash_keys = _hash_keys(message)
            kept = [sub for sub, key in zip(subs, hash_keys, strict=True) if key in own]
            out_of_range += len(subs) - len(kept)
            subs = kept
        result += subs
    return Deaggregated(result, aggregates, out_of_range)


def _keys_of(hash_range: HashKeyRange) -> range | None:
    """Return the shard's hash keys; None if it has all of them, and nothing can be astray."""
    own = range(int(hash_range.starting_hash_key), int(hash_range.ending_hash_key) + 1)
    return None if own == _ALL_HASH_KEYS else own


def _message(data: bytes) -> Any | None:
    """Return the aggregate's message; None if its digest or its form is wrong."""
    body, digest = data[len(KPL_MAGIC) : -_MD5_SIZE], data[-_MD5_SIZE:]
    if len(data) < len(KPL_MAGIC) + _MD5_SIZE:
        return None
    if md5(body, usedforsecurity=False).digest() != digest:
        return None
    try:
        message = _AggregatedRecord.FromString(body)
    except DecodeError:
        return None
    return message if message.IsInitialized() else None


def _unpack(record: Record, message: Any) -> list[Record] | None:
    """Return all user records of an aggregate; None if one has no proper key."""
    sequence, arrival = record.sequence_number, record.approximate_arrival_timestamp
    keys = list(message.partition_key_table)
    if not all(isinstance(key, str) for key in keys):
        return None  # The runtime hands out as bytes what is no UTF-8.
    try:
        return [
            Record(sequence, arrival, sub.data, keys[sub.partition_key_index], index)
            for index, sub in enumerate(message.records)
        ]
    except IndexError:
        return None


def _hash_keys(message: Any) -> list[int]:
    """Return where each sub-record belongs: its explicit hash key, or its partition key's MD5."""
    hashed = [hash_key(key) for key in message.partition_key_table]
    explicit = [int(key) if key.isdecimal() else None for key in message.explicit_hash_key_table]
    found: list[int] = []
    for sub in message.records:
        key = None
        # Index 0 is also what an absent field reads as: presence has to be asked for.
        if sub.HasField("explicit_hash_key_index") and sub.explicit_hash_key_index < len(explicit):
            key = explicit[sub.explicit_hash_key_index]
        found.append(hashed[sub.partition_key_index] if key is None else key)
    return found


def _describe_message() -> Any:
    """Return the message class of `AggregatedRecord`, without generated code.

    protobuf's runtime parses in C: measured at a third of what a decoder in Python takes
    (docs/performance.md). `Record.tags`, which nobody uses, are skipped as an unknown field.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="streamproc/kpl.proto", package="streamproc.kpl", syntax="proto2"
    )
    record = file.message_type.add(name="Record")
    for name, number, kind, label in (
        ("partition_key_index", 1, field.TYPE_UINT64, field.LABEL_REQUIRED),
        ("explicit_hash_key_index", 2, field.TYPE_UINT64, field.LABEL_OPTIONAL),
        ("data", 3, field.TYPE_BYTES, field.LABEL_REQUIRED),
    ):
        record.field.add(name=name, number=number, type=kind, label=label)
    aggregated = file.message_type.add(name="AggregatedRecord")
    for name, number in (("partition_key_table", 1), ("explicit_hash_key_table", 2)):
        aggregated.field.add(
            name=name, number=number, type=field.TYPE_STRING, label=field.LABEL_REPEATED
        )
    aggregated.field.add(
        name="records",
        number=3,
        type=field.TYPE_MESSAGE,
        type_name=".streamproc.kpl.Record",
        label=field.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("streamproc.kpl.AggregatedRecord")
    )


_AggregatedRecord: Final = _describe_message()
