"""A batch's commit, and what of it goes to commit.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamproc.position import Position
from streamproc.state.cell import StateCell, new_version
from streamproc.state.changes import Changes
from streamproc.state.counters import CounterCell
from streamproc.state.dedupe import Marks
from streamproc.state.keys import Keys
from streamproc.state.outbox import OutboxEntry
from streamproc.state.parking import Parked, Redriven
from streamproc.state.timers import TimerChange

__all__ = ["Commit", "CommitCall"]

_encode_timer = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Commit(msgspec.Struct, kw_only=True):
    """Everything one batch changes.

    Attributes:
        shard: field of the positions hash, ``stream/shard``.
        epoch: the owner's epoch.
        start: the position that the batch starts from; it must be the stored one.
        end: the position that it reaches.
        bucket: the dedupe bucket that marks go to, as `check` returned it.
        digests: ids to mark, 16 bytes each.
        cells: the states that the batch read, with their versions and what they have become.
        counters: the counters that the batch changes, and how; never a reason to refuse it.
        outbox: the entries of emitted events.
        dead_letters: fields and values of each dead letter's entry.
        timers: the timers to set or remove, each name once.
        event_clock: the shard's new event time in ms, if it has one and it moved.
        parked: what was parked by the check that the batch relies on; None if it does not.
        park: records to be parked under each partition key, as JSON.
        redriven: what becomes of the records of a parked key.
    """

    shard: str
    epoch: int
    start: Position
    end: Position
    bucket: int
    digests: Sequence[bytes] = ()
    cells: Sequence[tuple[StateCell, bytes | None]] = ()
    counters: Sequence[tuple[CounterCell, Changes]] = ()
    outbox: Sequence[OutboxEntry] = ()
    dead_letters: Sequence[Sequence[str | bytes]] = ()
    timers: Sequence[TimerChange] = ()
    event_clock: int | None = None
    parked: Parked | None = None
    park: Mapping[str, Sequence[str]] = msgspec.field(default_factory=dict)
    redriven: Redriven | None = None


class CommitCall:
    """A commit as commit.lua takes it, which says what stands where.

    Attributes:
        keys: what it touches.
        arguments: what it says of them.
        parked: what is parked once it is applied; None if it does not mind.
        is_timed: whether it is about timers.
    """

    def __init__(self, commit: Commit, keys: Keys, marks: Marks) -> None:
        self._commit = commit
        # Of all that the commit writes: a version is told from others of its own key only.
        self._version = new_version()
        self._values: list[str | bytes] = []
        self.is_timed = bool(commit.timers) or commit.event_clock is not None
        self.parked = None if commit.parked is None else commit.parked.after(commit)
        marked = marks.committed(commit.bucket, commit.digests)
        # Each of these adds to the values, in the order in which the script takes them.
        states = self._states()
        counter_keys, counters = self._counters()
        outbox = self._outbox()
        shapes: dict[tuple[str | bytes, ...], int] = {}
        dead_letters = self._dead_letters(shapes)
        timers = self._timers() if self.is_timed else False
        parking_keys, parking = self._parking(keys)
        told = _pack(
            (
                commit.shard,
                str(commit.epoch),
                commit.start.encode(),
                commit.end.encode(),
                marks.keep_ms,
                len(commit.digests),
                marks.sets(marked),
                states,
                counters,
                outbox,
                list(shapes),
                dead_letters,
                timers,
                parking,
            )
        )
        self.arguments = [told, marks.packed(commit.digests), *self._values]
        self.keys = [
            keys.positions,
            keys.outbox,
            keys.dead_letters,
            *marked,
            *[cell.key for cell, _ in commit.cells],
            *counter_keys,
            *(keys.timers(commit.shard) if self.is_timed else ()),
            *parking_keys,
        ]

    def committed(self, before: Sequence[int], counted: Sequence[int]) -> None:
        """Have the copies of states and counters follow a commit that was applied.

        Args:
            before: the version of each counter before.
            counted: how many members each name that counts them has, see `Counts.apply`.
        """
        version = self._version
        for cell, value in self._commit.cells:
            if value is not None:
                cell.committed(value, version)
        at = 0
        for (counter, changes), found in zip(self._commit.counters, before, strict=True):
            end = at + (0 if changes.rare is None else len(changes.rare.members))
            counter.committed(changes, found, version, counted[at:end])
            at = end

    def _states(self) -> list[int]:
        told: list[int] = []
        version = self._version
        for cell, value in self._commit.cells:
            if value is None:
                told += (cell.version, 0, 0, 0)
            else:
                codec = cell.codec
                schema = 0 if cell.schema == codec.schema else codec.schema
                told += (cell.version, version, codec.ttl_ms, schema)
                self._values.append(value)
        return told

    def _counters(self) -> tuple[list[str], list[Any]]:
        keys: list[str] = []
        told: list[Any] = [self._version]
        for counter, changes in self._commit.counters:
            rare, stored = changes.rare, counter.stored
            keys.append(stored.key)
            if rare is None and not stored.estimates:  # as nearly all
                told.append((counter.ttl_ms, 0, False, *changes.added()))
                continue
            sketches = counter.sketches(changes)
            keys += sketches
            others = False if rare is None else rare.wire()
            told.append((counter.ttl_ms, len(sketches), others, *changes.added()))
            if rare is not None:
                self._values += [b"".join(members) for members in rare.members.values()]
        return keys, told

    def _outbox(self) -> list[str]:
        told: list[str] = []
        for entry in self._commit.outbox:
            told += (entry.id, entry.type, entry.key, entry.cause)
        self._values += [entry.data for entry in self._commit.outbox]
        return told

    def _dead_letters(self, shapes: dict[tuple[str | bytes, ...], int]) -> list[int]:
        """Return the place of each entry's shape: nearly all have the same names of fields."""
        places = []
        for entry in self._commit.dead_letters:
            places.append(shapes.setdefault(tuple(entry[::2]), len(shapes) + 1))
            self._values += entry[1::2]
        return places

    def _timers(self) -> list[Any]:
        clock = self._commit.event_clock
        told: list[Any] = ["" if clock is None else clock]
        for change in self._commit.timers:
            timer = change.timer
            if timer is None:
                told += (change.name, 0, 0)
            else:
                told += (change.name, timer.at, 1 if timer.clock == "event" else 2)
                self._values.append(_encode_timer(timer))
        return told

    def _parking(self, keys: Keys) -> tuple[list[str], Any]:
        commit, after = self._commit, self.parked
        if commit.parked is None or after is None:
            return [], False
        redriven = commit.redriven
        named = [*([] if redriven is None else [redriven.key]), *commit.park]
        told = (
            commit.parked.version,
            after.version,
            [(key, *records) for key, records in commit.park.items()],
            () if redriven is None else msgspec.structs.astuple(redriven),
        )
        lists = [keys.parked_list(key) for key in named]
        return [*lists, keys.redrive, keys.parked, keys.parking], told
