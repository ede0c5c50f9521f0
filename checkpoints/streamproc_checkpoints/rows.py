"""The JSON form of a lease, and what identifies a version of it."""

from __future__ import annotations

import logging

import msgspec

from streamproc.leases.lease import Lease

__all__ = ["decode_row", "encode_row", "same_version"]

log = logging.getLogger("streamproc.checkpoints")

_decoder = msgspec.json.Decoder(Lease)
_encoder = msgspec.json.Encoder()


def encode_row(lease: Lease) -> bytes:
    """Return the lease as compact JSON; fields at their defaults are left out."""
    return _encoder.encode(lease)


def decode_row(data: bytes, where: str) -> Lease | None:
    """Read a lease; None for a row that is none, which is logged with `where` it is."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        log.warning("%s is no lease and is passed over: %s", where, error)
        return None


def same_version(a: Lease, b: Lease) -> bool:
    """Whether two leases agree in what every write is conditioned on."""
    return (a.counter, a.owner, a.checkpoint_owner) == (b.counter, b.owner, b.checkpoint_owner)
