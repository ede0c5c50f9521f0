"""Opaque tokens: shard iterators and ListShards/ListStreams page tokens.

Both carry all they mean, so the server keeps nothing per reader, and a checksum, so that a made-up
token is refused. Stateless tokens also make a simulation replayable.
"""

from __future__ import annotations

import binascii
import zlib

import msgspec


class IteratorToken(msgspec.Struct, frozen=True, array_like=True, tag="iterator"):
    """A place in a shard. `incarnation` tells a stream from an earlier one of the same name."""

    stream: str
    incarnation: int
    shard_id: str
    position: int
    issued_ms: int


class PageToken(msgspec.Struct, array_like=True, tag="page"):
    """Where a listing goes on: after `after`, with the filter of the first page."""

    stream: str
    incarnation: int
    after: str
    issued_ms: int
    filter_type: str | None = None
    filter_shard_id: str | None = None
    filter_time_ms: int | None = None


_decoder: msgspec.msgpack.Decoder[IteratorToken | PageToken] = msgspec.msgpack.Decoder(
    IteratorToken | PageToken
)
_encoder = msgspec.msgpack.Encoder()


def encode(token: IteratorToken | PageToken) -> str:
    """Make a token text of letters, digits, `+`, `/` and `=`."""
    body = _encoder.encode(token)
    return binascii.b2a_base64(zlib.crc32(body).to_bytes(4, "big") + body, newline=False).decode()


def decode(text: str) -> IteratorToken | PageToken | None:
    """Read a token text; None when it is not one of ours."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):  # ValueError: text is not ASCII
        return None
    body = raw[4:]
    if len(raw) < 5 or zlib.crc32(body).to_bytes(4, "big") != raw[:4]:
        return None
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        return None
