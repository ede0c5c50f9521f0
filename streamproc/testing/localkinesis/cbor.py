"""Bodies in CBOR (`application/x-amz-cbor-1.1`), which the AWS SDK for Java speaks by default.

The same members as in JSON, with two differences: blobs are byte strings, and timestamps are tag 1
around whole *milliseconds*, although the tag means seconds (RFC 8949, section 3.4.2;
aws-sdk-java-v2 #4661). Answers are made from the JSON ones, except that of GetRecords, whose
records are put together here: a general encoder would take more than twice as long for them.

It takes the package cbor2, which is loaded when the first such request comes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

CONTENT_TYPE: Final = "application/x-amz-cbor-1.1"

_EPOCH_TAG: Final = 1
_TEXT, _BYTES, _ARRAY, _MAP = 0x60, 0x40, 0x80, 0xA0
_NULL: Final = b"\xf6"
# A record's members between their values; sequence numbers have 56 digits.
_TO_SEQUENCE: Final = b"\xa4\x6eSequenceNumber\x78\x38"
_TO_ARRIVAL: Final = b"\x78\x1bApproximateArrivalTimestamp\xc1\x1b"
_TO_DATA: Final = b"\x64Data"
_TO_KEY: Final = b"\x6cPartitionKey"


class _StoredRecord(msgspec.Struct, rename="pascal", gc=False):
    """What is needed of a record's JSON."""

    sequence_number: str
    data: bytes
    partition_key: str


_decode_stored = msgspec.json.Decoder(_StoredRecord).decode


def why_not() -> str | None:
    """Say why CBOR cannot be spoken here; None when it can."""
    try:
        import cbor2  # noqa: F401
    except ImportError:
        return "CBOR takes the package cbor2: pip install 'streamproc[local]'"
    return None


def decode_request(body: bytes, request_type: type[Any]) -> Any:
    """Decode a request.

    Raises:
        ValueError: it is no CBOR, or not such a request.
    """
    import cbor2

    if not body:
        return msgspec.convert({}, request_type)
    stream = io.BytesIO(body)
    decoder = cbor2.CBORDecoder(
        stream,
        object_hook=_with_base64,
        semantic_decoders={_EPOCH_TAG: lambda ms, _immutable: ms / 1000},
    )
    try:
        members = decoder.decode()
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise ValueError(f"no valid CBOR: {error}") from error
    if stream.read(1):
        raise ValueError("no valid CBOR: more follows the request")
    return msgspec.convert(members, request_type)


def encode_answer(body: bytes) -> bytes:
    """Turn an answer, or an error, in JSON into CBOR; an empty one stays empty."""
    if not body:
        return b""
    import cbor2

    return cbor2.dumps(_with_timestamps(msgspec.json.decode(body)))


def encode_records(
    fragments: Sequence[bytes],
    arrivals_ms: Sequence[int],
    iterator: str | None,
    behind_ms: int,
    children: Sequence[Mapping[str, Any]] | None,
) -> bytes:
    """Encode the answer of GetRecords.

    Args:
        fragments: the records as JSON.
        arrivals_ms: when each arrived.
        iterator: NextShardIterator; None at a shard's end.
        behind_ms: MillisBehindLatest.
        children: ChildShards, where there are any to be told.
    """
    import cbor2

    parts = [
        _head(_MAP, 3 if children is None else 4),
        b"\x67Records",
        _head(_ARRAY, len(fragments)),
    ]
    for fragment, arrival_ms in zip(fragments, arrivals_ms, strict=True):
        record = _decode_stored(fragment)
        data, key = record.data, record.partition_key.encode()
        parts += (
            _TO_SEQUENCE,
            record.sequence_number.encode(),
            _TO_ARRIVAL,
            arrival_ms.to_bytes(8, "big"),
            _TO_DATA,
            _head(_BYTES, len(data)),
            data,
            _TO_KEY,
            _head(_TEXT, len(key)),
            key,
        )
    parts += (b"\x71NextShardIterator", _NULL if iterator is None else cbor2.dumps(iterator))
    parts += (b"\x72MillisBehindLatest", cbor2.dumps(behind_ms))
    if children is not None:
        parts += (b"\x6bChildShards", cbor2.dumps(children))
    return b"".join(parts)


def _head(kind: int, length: int) -> bytes:
    """Return what announces a string, array or map of a length (RFC 8949, section 3)."""
    if length < 24:
        return bytes((kind | length,))
    if length < 1 << 8:
        return bytes((kind | 24, length))
    if length < 1 << 16:
        return bytes((kind | 25, length >> 8, length & 0xFF))
    return bytes((kind | 26,)) + length.to_bytes(4, "big")


def _with_base64(members: Mapping[Any, Any], _immutable: bool) -> Mapping[Any, Any]:
    """Return a map with its blob as base64 text, the form in which requests hold it."""
    data = members.get("Data")
    if data is None:
        return members
    if not isinstance(data, bytes):
        raise ValueError("Data is no byte string")
    return {**members, "Data": base64.b64encode(data).decode()}


def _with_timestamps(value: Any) -> Any:
    """Return a JSON value with its timestamps tagged."""
    import cbor2

    if isinstance(value, list):
        return [_with_timestamps(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: cbor2.CBORTag(_EPOCH_TAG, round(member * 1000))
        if name.endswith("Timestamp")
        else _with_timestamps(member)
        for name, member in value.items()
    }
