"""What an emitted event is in the outbox."""

from __future__ import annotations

import msgspec

__all__ = ["OutboxEntry"]


class OutboxEntry(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An entry of the outbox: its fields in the Redis stream.

    Attributes:
        id: the event's id, the same on every replay.
        type: its name.
        key: its partition key downstream.
        cause: the id of the event that led to it.
        data: the CloudEvent as JSON.
    """

    id: str
    type: str
    key: str
    cause: str
    data: bytes
