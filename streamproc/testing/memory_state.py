"""A state store in memory that keeps every rule of the one in Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from streamproc.errors import Fenced
from streamproc.position import Position
from streamproc.state.cell import StateCell, new_version
from streamproc.state.changes import Changes
from streamproc.state.counters import EXACT_MEMBERS, CounterCell
from streamproc.state.counts import Counts
from streamproc.state.dedupe import Layout
from streamproc.state.keys import Keys
from streamproc.state.outbox import OutboxEntry
from streamproc.state.parking import Parked, Queue, Wanted
from streamproc.state.store import Adopted, Checked, Commit, CommitResult
from streamproc.state.timers import Clock, Timer, TimerState

__all__ = ["MemoryStateStore"]


class _Owned(msgspec.Struct):
    epoch: int
    position: Position | None


class _Seen(msgspec.Struct):
    digests: set[bytes]
    expires_ms: int


class _Stored(msgspec.Struct):
    version: int
    raw: bytes
    schema: int = 1
    expires_ms: int | None = None


class _StoredCounts(msgspec.Struct):
    """A counter key; `members` is what Redis would have in sketches, exactly."""

    fields: Counts
    members: dict[str, set[bytes]]
    expires_ms: int | None = None


class MemoryStateStore:
    """Keeps a partition's positions, dedupe marks, states, outbox, dead letters in this process.

    It refuses what the scripts of `RedisStateStore` refuse, in their order, and a refused commit
    changes nothing. One call is one step: nothing else runs in the middle of it.

    Args:
        group: consumer group, which names the keys.
        dedupe_ttl: seconds an id is remembered at least.
        clock: seconds since the epoch; marks and states expire by it.
        partition: which one of the group's, from 0 on.
        layout: how ids are marked, which decides when each is forgotten.

    Attributes:
        keys: the names that the states would have in Redis.
        outbox: fields of each emitted event's entry, oldest first.
        dead_letters: fields of each dead letter's entry, oldest first.
    """

    def __init__(
        self,
        group: str = "test",
        dedupe_ttl: float = 172_800.0,
        clock: Callable[[], float] = time.time,
        partition: int = 0,
        layout: Layout = "sets",
    ) -> None:
        self.keys = Keys(group, partition)
        self.outbox: list[dict[str, bytes]] = []
        self.dead_letters: list[dict[str, bytes]] = []
        self._clock = clock
        self._bucket_ms = max(1, int(dedupe_ttl * 1000 / 2))
        self._incarnation: str | None = None
        self._owned: dict[str, _Owned] = {}
        self._layout = layout
        self._seen: dict[int, _Seen] = {}
        self._marked: dict[bytes, int] = {}
        self._states: dict[str, _Stored] = {}
        self._timers: dict[str, dict[str, Timer]] = {}
        self._event_clocks: dict[str, int] = {}
        self._counters: dict[str, _StoredCounts] = {}
        self._parked = Parked()
        self._queues: dict[str, list[bytes]] = {}
        self._wanted: dict[str, None] = {}

    async def adopt(self, shard: str, epoch: int, start: Position | None) -> Adopted:
        """See `StateStore.adopt`."""
        owned = self._owned.get(shard, _Owned(0, None))
        if owned.epoch > epoch:
            raise _fenced(shard, epoch, owned.epoch)
        position = start if owned.position is None else owned.position
        self._owned[shard] = _Owned(epoch, position)
        self._incarnation = self._incarnation or uuid.uuid4().hex
        return Adopted(position, self._incarnation, self._timer_state(shard))

    async def check(
        self,
        digests: Sequence[bytes],
        cells: Sequence[StateCell],
        counters: Sequence[CounterCell] = (),
    ) -> Checked:
        """See `StateStore.check`."""
        self._expire()
        for cell in cells:
            stored = self._states.get(cell.key)
            if stored is None and cell.version:
                cell.load(0, None)
            elif stored is not None and stored.version != cell.version:
                cell.load(stored.version, stored.raw, stored.schema)
        for counter in counters:
            held = self._counters.get(counter.key)
            fields = Counts(counter.key) if held is None else held.fields
            if fields.version != counter.stored.version:
                counter.stored.take(fields)
        for cell in cells:
            cell.is_held = True
        committed = set(self._committed(self.bucket(), digests))
        return Checked(self.bucket(), committed, self._parked, len(self.outbox))

    def bucket(self) -> int:
        """See `StateStore.bucket`."""
        return self.now_ms() // self._bucket_ms

    async def commit(self, commit: Commit) -> CommitResult:
        """See `StateStore.commit`."""
        self._expire()
        owned = self._owned.get(commit.shard, _Owned(0, None))
        if owned.epoch > commit.epoch:
            raise _fenced(commit.shard, commit.epoch, owned.epoch)
        if owned.position is None or owned.position.encode() != commit.start.encode():
            return CommitResult("MOVED", position=owned.position)
        waiting = 0 if commit.redriven is None else len(self._queues.get(commit.redriven.key, ()))
        if commit.parked is not None and (
            commit.parked.version != self._parked.version
            or (commit.redriven is not None and commit.redriven.length != waiting)
        ):
            return CommitResult("PARKING", parked=self._parked, waiting=waiting)
        if refused := self._committed(commit.bucket, commit.digests):
            return CommitResult("DUPLICATE", refused=tuple(refused))
        if refused := [at for at, (cell, _) in enumerate(commit.cells) if self._is_stale(cell)]:
            return CommitResult("CONFLICT", refused=tuple(refused))
        self._apply(commit)
        timed = bool(commit.timers) or commit.event_clock is not None
        return CommitResult("OK", timers=self._timer_state(commit.shard) if timed else None)

    async def due_timers(
        self, shard: str, clock: Clock, until: int, limit: int
    ) -> tuple[list[Timer], TimerState]:
        """See `StateStore.due_timers`."""
        due = [t for t in self.timers(shard) if t.clock == clock and t.at <= until][:limit]
        return due, self._timer_state(shard, without=due)

    async def inherit_timers(self, parent: str, child: str, low: str, high: str) -> int:
        """See `StateStore.inherit_timers`."""
        theirs, ours = self._timers.get(parent, {}), self._timers.setdefault(child, {})
        moving = [timer for timer in theirs.values() if low <= timer.hash <= high]
        for timer in moving:
            del theirs[timer.name]
        fresh = [timer for timer in moving if timer.name not in ours]
        ours.update({timer.name: timer for timer in fresh})
        clocks = [
            self._event_clocks[name] for name in (parent, child) if name in self._event_clocks
        ]
        if clocks:
            self._event_clocks[child] = max(clocks)
        return len(fresh)

    def now_ms(self) -> int:
        """See `StateStore.now_ms`."""
        # A time that was given in ms is not quite that as a float.
        return round(self._clock() * 1000)

    def timers(self, shard: str) -> list[Timer]:
        """Return a shard's pending timers, the earliest first."""
        return sorted(self._timers.get(shard, {}).values(), key=lambda t: (t.at, t.name.encode()))

    async def positioned_shards(self, stream: str) -> set[str]:
        """See `StateStore.positioned_shards`."""
        prefix = f"{stream}/"
        return {field.removeprefix(prefix) for field in self._owned if field.startswith(prefix)}

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        """See `StateStore.forget_shards`."""
        for shard in shards:
            field = f"{stream}/{shard}"
            self._owned.pop(field, None)
            if not self._timers.get(field):
                self._event_clocks.pop(field, None)

    async def queue(self, partition_key: str, most: int) -> Queue:
        """See `StateStore.queue`."""
        records = self._queues.get(partition_key, [])
        return Queue(len(records), records[:most])

    async def wanted(self, most: int) -> Wanted:
        """See `StateStore.wanted`."""
        return Wanted(list(self._wanted)[:most], len(self._parked.keys))

    async def forget_wanted(self, partition_key: str) -> None:
        """See `StateStore.forget_wanted`."""
        self._wanted.pop(partition_key, None)

    async def outbox_size(self) -> int:
        """See `StateStore.outbox_size`."""
        return len(self.outbox)

    def want(self, partition_key: str) -> None:
        """Ask for a parked key to be redriven, as the command line does."""
        self._wanted[partition_key] = None

    async def drop(self, partition_key: str) -> None:
        """Drop all that is parked under a key, as the command line does."""
        self._queues.pop(partition_key, None)
        self._wanted.pop(partition_key, None)
        self._parked = Parked(uuid.uuid4().hex, self._parked.keys - {partition_key})

    def parked(self) -> dict[str, list[bytes]]:
        """Return the records of each parked key, as JSON, oldest first."""
        return {key: list(records) for key, records in self._queues.items()}

    async def aclose(self) -> None:
        """Do nothing: what is stored stays readable."""

    def stored(self, key: str) -> bytes | None:
        """Return the JSON stored at a state's full key; None when there is none."""
        self._expire()
        stored = self._states.get(key)
        return None if stored is None else stored.raw

    def schema(self, key: str) -> int:
        """Return the schema version of the state at a full key; 1 when there is none."""
        stored = self._states.get(key)
        return 1 if stored is None else stored.schema

    def counts(self, key: str) -> Counts | None:
        """Return the counters stored at a full key; None when there are none."""
        self._expire()
        stored = self._counters.get(key)
        return None if stored is None else stored.fields

    def dump(self) -> dict[str, Any]:
        """Return a copy of everything, to compare before and after."""
        self._expire()
        return {
            "incarnation": self._incarnation,
            "positions": {shard: (o.epoch, o.position) for shard, o in self._owned.items()},
            "seen": {at: (frozenset(s.digests), s.expires_ms) for at, s in self._seen.items()},
            "marked": dict(self._marked),
            "states": {
                key: (stored.version, stored.raw, stored.schema, stored.expires_ms)
                for key, stored in self._states.items()
            },
            "counters": {
                key: (stored.fields.to_fields(), stored.expires_ms)
                for key, stored in self._counters.items()
            },
            "outbox": [dict(entry) for entry in self.outbox],
            "dead_letters": [dict(entry) for entry in self.dead_letters],
            "timers": {shard: dict(timers) for shard, timers in self._timers.items() if timers},
            "event_clocks": dict(self._event_clocks),
            "parked": self.parked(),
            "parking": self._parked.version,
            "redrive": set(self._wanted),
        }

    def _apply(self, commit: Commit) -> None:
        now_ms = self.now_ms()
        if self._layout == "keys":
            expires_ms = now_ms + 2 * self._bucket_ms
            self._marked.update(dict.fromkeys(commit.digests, expires_ms))
        elif commit.digests:
            seen = self._seen.setdefault(commit.bucket, _Seen(set(), 0))
            seen.digests.update(commit.digests)
            # The youngest mark of a bucket is as old as the bucket's end; keep it a TTL longer.
            seen.expires_ms = now_ms + 3 * self._bucket_ms
        for cell, value in commit.cells:
            if value is not None:
                self._write(cell, value, now_ms)
        for counter, changes in commit.counters:
            self._count(counter, changes, now_ms)
        self.outbox += [_emitted(entry) for entry in commit.outbox]
        self.dead_letters += [_entry(strings) for strings in commit.dead_letters]
        if commit.parked is not None:
            self._park(commit)
            self._parked = commit.parked.after(commit)
        self._owned[commit.shard] = _Owned(commit.epoch, commit.end)
        timers = self._timers.setdefault(commit.shard, {})
        for change in commit.timers:
            timers.pop(change.name, None)
            if change.timer is not None:
                timers[change.name] = change.timer
        if commit.event_clock is not None:
            self._event_clocks[commit.shard] = commit.event_clock

    def _timer_state(self, shard: str, without: Sequence[Timer] = ()) -> TimerState:
        timers = self.timers(shard)
        left = [timer for timer in timers if timer not in without]
        return TimerState(
            min((timer.at for timer in left if timer.clock == "event"), default=None),
            min((timer.at for timer in left if timer.clock == "wall"), default=None),
            self._event_clocks.get(shard),
            len(timers),
        )

    def _park(self, commit: Commit) -> None:
        for key, records in commit.park.items():
            self._queues.setdefault(key, []).extend([record.encode() for record in records])
        redriven = commit.redriven
        if redriven is None:
            return
        queue = self._queues[redriven.key]
        del queue[: redriven.done]
        if redriven.empties:
            del self._queues[redriven.key]
        elif redriven.head:
            queue[0] = redriven.head.encode()
        if redriven.empties or redriven.head:
            self._wanted.pop(redriven.key, None)

    def _write(self, cell: StateCell, value: bytes, now_ms: int) -> None:
        version = new_version()
        stored = self._states.setdefault(cell.key, _Stored(version, value))
        stored.version, stored.raw, stored.schema = version, value, cell.codec.schema
        if cell.codec.ttl_ms:  # without one, Redis leaves an earlier expiry as it is
            stored.expires_ms = now_ms + cell.codec.ttl_ms
        cell.committed(value, version)

    def _count(self, counter: CounterCell, changes: Changes, now_ms: int) -> None:
        stored = self._counters.setdefault(counter.key, _StoredCounts(Counts(counter.key), {}))
        fields = stored.fields
        before = fields.version
        counted = []
        for name, digests in ({} if changes.rare is None else changes.rare.members).items():
            members = stored.members.setdefault(name, set())
            members.update(digests)
            count = len(members)
            counted.append(count if count <= EXACT_MEMBERS else -count)
        fields.apply(changes, counted)
        fields.version = new_version()
        if counter.ttl_ms:
            stored.expires_ms = now_ms + counter.ttl_ms
        counter.committed(changes, before, fields.version, counted)

    def _committed(self, bucket: int, digests: Sequence[bytes]) -> list[int]:
        if self._layout == "keys":
            return [at for at, digest in enumerate(digests) if digest in self._marked]
        marks = [self._seen[at].digests for at in range(bucket - 2, bucket + 2) if at in self._seen]
        return [at for at, digest in enumerate(digests) if any(digest in seen for seen in marks)]

    def _is_stale(self, cell: StateCell) -> bool:
        stored = self._states.get(cell.key)
        return cell.version != (0 if stored is None else stored.version)

    def _expire(self) -> None:
        now_ms = self.now_ms()
        self._seen = {at: seen for at, seen in self._seen.items() if seen.expires_ms > now_ms}
        if self._marked:
            self._marked = {id: at for id, at in self._marked.items() if at > now_ms}
        for table in (self._states, self._counters):
            for key in [
                key
                for key, stored in table.items()
                if stored.expires_ms is not None and stored.expires_ms <= now_ms
            ]:
                del table[key]


def _emitted(entry: OutboxEntry) -> dict[str, bytes]:
    return {
        "id": entry.id.encode(),
        "type": entry.type.encode(),
        "key": entry.key.encode(),
        "cause": entry.cause.encode(),
        "data": entry.data,
    }


def _entry(strings: Sequence[str | bytes]) -> dict[str, bytes]:
    texts = [text.encode() if isinstance(text, str) else text for text in strings]
    names = [name.decode() for name in texts[::2]]
    return dict(zip(names, texts[1::2], strict=True))


def _fenced(shard: str, epoch: int, newer: int) -> Fenced:
    return Fenced(f"{shard}: epoch {epoch} is fenced off by epoch {newer}", newer)
