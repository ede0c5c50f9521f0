"""The letters of a batch: what its commit puts aside, for good or until a key is redriven."""

from __future__ import annotations

import msgspec

from streamproc.context import Item
from streamproc.deadletter import DeadLetter, describe_failure
from streamproc.errors import DecodeError, Reject
from streamproc.events.envelope import encode_envelope, split_type
from streamproc.kinesis.records import Record
from streamproc.pipeline.decode import DecodedBatch
from streamproc.pipeline.dispatch import Dispatched, Failure
from streamproc.pipeline.parking import Redrive

__all__ = ["Letters"]


class Letters:
    """Writes the letters of one shard.

    Args:
        group: consumer group.
        stream: stream name.
        shard_id: the shard.
    """

    def __init__(self, group: str, stream: str, shard_id: str) -> None:
        self._group = group
        self._stream = stream
        self._shard_id = shard_id

    def dead(
        self, batch: DecodedBatch, result: Dispatched, redrive: Redrive | None
    ) -> list[DeadLetter]:
        """Return the letters of events that failed and are not parked."""
        return [
            self._letter(failure, batch, redrive)
            for failure in result.failures
            if failure.fate == "dead-letter"
        ]

    def parked(
        self, batch: DecodedBatch, result: Dispatched, redrive: Redrive | None
    ) -> list[DeadLetter]:
        """Return what is parked: events that failed, and those that wait behind others."""
        failed = [
            self._letter(failure, batch, redrive)
            for failure in result.failures
            if failure.fate != "dead-letter"
        ]
        if redrive is not None:
            return failed
        return failed + [self._waiting(item, batch) for item in result.behind]

    def _letter(self, failure: Failure, batch: DecodedBatch, redrive: Redrive | None) -> DeadLetter:
        item, error = failure.item, failure.error
        text, trace = describe_failure(error)
        before = self._waiting(item, batch) if redrive is None else redrive.letters[int(item.order)]
        return msgspec.structs.replace(
            before,
            reason=error.reason if isinstance(error, (Reject, DecodeError)) else "handler-failed",
            error=text,
            traceback=trace,
            attempts=before.attempts + failure.attempts,
            event_type=item.event_type,
            event_id=item.event_id,
            handler=failure.handler,
        )

    def _waiting(self, item: Item, batch: DecodedBatch) -> DeadLetter:
        return DeadLetter.of(
            self._record(item, batch),
            self._stream,
            self._shard_id,
            reason="behind-parked",
            error="",
            event_type=item.event_type,
            event_id=item.event_id,
        )

    def _record(self, item: Item, batch: DecodedBatch) -> Record:
        """Return the record of an event, or for a timer's one that would bring it again."""
        timer = item.timer
        if timer is None:
            return batch.records[int(item.order)]
        name, version = split_type(timer.type)
        data = encode_envelope(
            id=item.event_id,
            source=f"streamproc/{self._group}/{timer.processor}",
            type=name,
            version=version or 1,
            time=item.time,
            data=timer.data,
        )
        return Record(item.sequence, item.arrival, data, timer.key)
