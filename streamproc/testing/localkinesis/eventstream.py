"""Messages of AWS's event stream encoding (`application/vnd.amazon.eventstream`).

A message is a prelude (total length, headers' length, CRC-32 of both), headers, payload, and the
CRC-32 of all that; a header is a name, the type 7 for text, and its value, each with its length.
"""

from __future__ import annotations

import struct
import zlib

_PRELUDE_BYTES = 12
_CRC_BYTES = 4
_TEXT = 7


def initial_response() -> bytes:
    """Return the message that begins every event stream of the JSON protocols."""
    return _event("initial-response", b"{}")


def record_event(payload: bytes) -> bytes:
    """Return a SubscribeToShardEvent."""
    return _event("SubscribeToShardEvent", payload)


def exception(code: str, payload: bytes) -> bytes:
    """Return the message of an error in the stream."""
    return _message({":message-type": "exception", ":exception-type": code}, payload)


def _event(kind: str, payload: bytes) -> bytes:
    return _message({":message-type": "event", ":event-type": kind}, payload)


def _message(headers: dict[str, str], payload: bytes) -> bytes:
    headers = headers | {":content-type": "application/json"}
    encoded = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack("!BH", _TEXT, len(value)) + value.encode()
        for name, value in headers.items()
    )
    total = _PRELUDE_BYTES + len(encoded) + len(payload) + _CRC_BYTES
    prelude = struct.pack("!II", total, len(encoded))
    checked = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return checked + struct.pack("!I", zlib.crc32(checked))
