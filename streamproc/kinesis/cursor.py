"""Where a reader is in its shard, and which records of an answer are still to be handed over."""

from __future__ import annotations

from typing import Final

from streamproc.kinesis.aggregation import deaggregate
from streamproc.kinesis.records import HashKeyRange, Record
from streamproc.position import LATEST, Position

__all__ = ["Cursor"]

# Arrival times are Kinesis's, the clock is this host's: look back a little further.
_CLOCK_TOLERANCE_S: Final = 1.0


class Cursor:
    """A place in a shard that moves with every answer.

    A position that comes from elsewhere may lie inside a KPL aggregate: that record is then to be
    read once more, `inclusive`, and what was passed of it is left out. After an answer the whole of
    its last record is passed.

    Args:
        start: where to begin; a number means after that record.
        hash_range: the shard's, if sub-records that belong to others are to be left out.

    Attributes:
        position: after which to read on.
        aggregates: KPL aggregates unpacked.
        out_of_range: sub-records left out because their key belongs to another shard.
    """

    def __init__(self, start: Position, hash_range: HashKeyRange | None) -> None:
        self.position = start
        self.aggregates = 0
        self.out_of_range = 0
        self._hash_range = hash_range
        self._passed: Position | None = start

    @property
    def inclusive(self) -> bool:
        """Whether the record at `position` itself has to be read again."""
        return self._passed is not None and not self.position.is_start

    def begin(self, now: float) -> tuple[Position, bool]:
        """Return the position to ask for, and whether its own record is to come again.

        LATEST is asked for once: again, it would leave out what arrived since the first time, and
        nothing delivered yet says where that was.

        Args:
            now: seconds since the epoch.
        """
        position, inclusive = self.position, self.inclusive
        if position == LATEST:
            self.move(Position("AT_TIMESTAMP", timestamp=now - _CLOCK_TOLERANCE_S))
        return position, inclusive

    def advance(self, position: Position) -> None:
        """Go on after a position that an answer named, be it one of records or not."""
        if self._passed is None or self.position.is_start:
            self.position, self._passed = position, None

    def move(self, position: Position) -> None:
        """Begin again elsewhere."""
        self.position = self._passed = position

    def take(self, records: list[Record], has_aggregates: bool) -> list[Record]:
        """Pass an answer's records; return what is to be processed of them, aggregates unpacked."""
        if not records:
            return records
        passed = self._passed
        self.position, self._passed = Position(records[-1].sequence_number), None
        if has_aggregates:
            unpacked = deaggregate(records, self._hash_range)
            records = unpacked.records
            self.aggregates += unpacked.aggregates
            self.out_of_range += unpacked.out_of_range
        if passed is not None and records and records[0].sequence_number == passed.sequence:
            records = [
                record
                for record in records
                if record.sequence_number != passed.sequence or record.sub > passed.sub
            ]
        return records
