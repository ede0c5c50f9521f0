"""Records put from within the server's process, with all but their place worked out beforehand.

A PutRecords call costs a server several microseconds a record: HTTP, JSON, base64, MD5. A load
generator that must not take the servers' core from them prepares its records and appends them here;
what a reader gets is byte for byte what PutRecords would have stored. Rate limits and planned
faults do not apply.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple

from streamproc.testing.localkinesis import routing, sequence
from streamproc.testing.localkinesis.core import LocalKinesisCore
from streamproc.testing.localkinesis.put_operations import append_record, record_rest

__all__ = ["PreparedRecord", "PreparedStream", "prepare_record"]


class PreparedRecord(NamedTuple):
    """Where a record belongs, its JSON after the arrival time, and its size in bytes."""

    hash_key: int
    rest: str
    size: int


def prepare_record(partition_key: str, data: bytes) -> PreparedRecord:
    """Prepare a record; its size counts data and partition key, as Kinesis does."""
    return PreparedRecord(
        routing.hash_partition_key(partition_key),
        record_rest(base64.b64encode(data).decode(), partition_key),
        len(data) + len(partition_key.encode()),
    )


class PreparedStream:
    """A stream of a core in this process: takes prepared records, and tells where shards stand.

    Args:
        core: the account.
        name: a stream of it.

    Raises:
        KinesisError: there is no such stream.
    """

    def __init__(self, core: LocalKinesisCore, name: str) -> None:
        self._account = core.account
        self._stream = core.account.stream_named(name, core.account.now_ms())

    def append(self, records: Iterable[PreparedRecord]) -> None:
        """Append records in this order, all with the present as their arrival time."""
        now_ms, route = self._account.now_ms(), self._stream.route
        self._stream.settle(now_ms)
        for hash_key, rest, size in records:
            append_record(route(hash_key), rest, size, now_ms)

    def tips(self) -> dict[str, int]:
        """Return how many records each shard has ever had, closed shards included."""
        return {shard.id: shard.tip for shard in self._stream.shards.values()}

    def number(self, shard_id: str, position: int) -> int:
        """Return the sequence number of the record at a position, counted from 0, of a shard."""
        shard = self._stream.shards[shard_id]
        return sequence.encode(shard.epoch, position + 1, shard.index)

    @staticmethod
    def position_after(number: str) -> int:
        """Return how many records its shard has up to and with that sequence number.

        Raises:
            ValueError: it is no sequence number of LocalKinesis.
        """
        parts = sequence.decode(number)
        if parts is None:
            raise ValueError(f"not a sequence number of LocalKinesis: {number!r}")
        return parts.counter

    def forget_before(self, shard_id: str, position: int) -> None:
        """Forget what arrived earlier than the record at `position`, as after its retention."""
        shard = self._stream.shards[shard_id]
        if shard.first < position < shard.tip:
            shard.trim(shard.arrival_at(position))
