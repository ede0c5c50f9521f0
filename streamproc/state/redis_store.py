"""The one place that talks to Redis for a batch: each step is one script and one round trip."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
from redis.exceptions import RedisError

from streamproc.errors import Fenced, StateStoreError, StreamprocError
from streamproc.position import Position
from streamproc.redis_client import TimedRedis, redis_address
from streamproc.state.cell import StateCell
from streamproc.state.commit import Commit, CommitCall
from streamproc.state.counters import CounterCell
from streamproc.state.dedupe import Layout, marks_of
from streamproc.state.keys import Keys
from streamproc.state.parking import Parked, Queue, Wanted
from streamproc.state.replication import ReplicaWait
from streamproc.state.store import Adopted, Checked, CommitResult
from streamproc.state.timers import Clock, Timer, TimerState

__all__ = ["RedisStateStore"]

T = TypeVar("T")

_SCRIPTS: Final = Path(__file__).parent
_TIMERS_A_PAGE: Final = 1_000

_decode_timer = msgspec.json.Decoder(Timer).decode
_pack = msgspec.msgpack.Encoder().encode


class RedisStateStore:
    """One partition of a group's state, in a Redis (>= 6.2) or Valkey.

    Args:
        client: closed with the store.
        group: consumer group, which names the keys.
        dedupe_ttl: seconds an id is remembered at least.
        partition: which one, from 0 on.
        layout: how ids are marked.
        replicas: what to wait for before a commit counts; None does not wait.
    """

    def __init__(
        self,
        client: TimedRedis,
        group: str,
        dedupe_ttl: float,
        partition: int = 0,
        layout: Layout = "sets",
        replicas: ReplicaWait | None = None,
    ) -> None:
        self.keys = Keys(group, partition)
        self._client = client
        self._replicas = replicas
        self._bucket_ms = max(1, int(dedupe_ttl * 1000 / 2))
        self._marks = marks_of(layout, self.keys, self._bucket_ms)
        # The bucket is chosen by Redis's clock, which all workers share; this is its lead on ours.
        self._clock_lead_ms = 0.0
        self._parked = Parked()
        self._adopt = client.register_script((_SCRIPTS / "adopt.lua").read_text())
        dedupe = (_SCRIPTS / "dedupe.lua").read_text()
        self._check = client.register_script(dedupe + (_SCRIPTS / "check.lua").read_text())
        self._commit = client.register_script(dedupe + (_SCRIPTS / "commit.lua").read_text())
        self._timers = client.register_script((_SCRIPTS / "timers.lua").read_text())
        self._inherit = client.register_script((_SCRIPTS / "inherit.lua").read_text())

    async def adopt(self, shard: str, epoch: int, start: Position | None) -> Adopted:
        """See `StateStore.adopt`."""
        reply = await self._run(
            self._adopt,
            [self.keys.positions, self.keys.incarnation, *self.keys.timers(shard)],
            [shard, epoch, "" if start is None else start.encode(), uuid.uuid4().hex],
        )
        if reply[0] == b"FENCED":
            raise _fenced(shard, epoch, reply[1])
        self._note_clock(reply[3])
        return Adopted(_position(reply[1]), reply[2].decode(), _timer_state(*reply[4:]))

    async def check(
        self,
        digests: Sequence[bytes],
        cells: Sequence[StateCell],
        counters: Sequence[CounterCell] = (),
    ) -> Checked:
        """See `StateStore.check`."""
        keys = self.keys
        bucket = self.bucket()
        while True:
            marks = self._marks.checked(bucket, digests)
            now_ms, seen, states, counts, (outbox, *parking) = await self._run(
                self._check,
                [
                    *marks,
                    *[cell.key for cell in cells],
                    *[counter.key for counter in counters],
                    keys.outbox,
                    keys.parked,
                    keys.parking,
                ],
                [
                    len(digests),
                    self._marks.sets(marks),
                    len(cells),
                    len(counters),
                    self._marks.packed(digests),
                    _pack(
                        [cell.version for cell in cells]
                        + [counter.stored.version for counter in counters]
                    ),
                    self._parked.version,
                ],
            )
            self._note_clock(now_ms)
            if len(parking) > 1:
                self._parked = _parked(*parking)
            for cell in cells:
                cell.is_held = True
            for at in range(0, len(states), 4):
                cells[states[at]].load(states[at + 1], states[at + 2] or None, states[at + 3])
            for at in range(0, len(counts), 2):
                counters[counts[at]].stored.load(_fields(counts[at + 1]))
            if bucket == now_ms // self._bucket_ms:
                return Checked(bucket, set(seen), self._parked, outbox)
            bucket = now_ms // self._bucket_ms  # our idea of Redis's time was off: look there too

    def bucket(self) -> int:
        """See `StateStore.bucket`."""
        return int(self._now_ms() // self._bucket_ms)

    async def commit(self, commit: Commit) -> CommitResult:
        """See `StateStore.commit`."""
        result = await self._apply(commit)
        if self._replicas is None or not (result.outcome == "OK" or result.position == commit.end):
            return result
        # Applied now, or by an earlier try.
        expected = f"{commit.epoch}|{commit.end.encode()}"
        stored = await self._answered(
            self._replicas.confirm(self._client, self.keys.positions, commit.shard, expected)
        )
        if stored == expected.encode():
            return result
        epoch, _, position = stored.partition(b"|")
        if epoch and int(epoch) > commit.epoch:
            raise _fenced(commit.shard, commit.epoch, int(epoch))
        return CommitResult("MOVED", position=_position(position))

    async def _apply(self, commit: Commit) -> CommitResult:
        call = CommitCall(commit, self.keys, self._marks)
        reply = await self._run(self._commit, call.keys, call.arguments)
        outcome = reply[0].decode()
        if outcome == "PARKING":
            self._parked = _parked(reply[1], reply[3])
            return CommitResult("PARKING", parked=self._parked, waiting=reply[2])
        if outcome == "OK":
            self._parked = call.parked or self._parked
            call.committed(reply[1], reply[2])
            return CommitResult("OK", timers=_timer_state(*reply[3:]) if call.is_timed else None)
        if outcome == "FENCED":
            raise _fenced(commit.shard, commit.epoch, reply[1])
        if outcome == "MOVED":
            return CommitResult("MOVED", position=_position(reply[1]))
        return CommitResult(outcome, refused=tuple(reply[1:]))

    async def positioned_shards(self, stream: str) -> set[str]:
        """See `StateStore.positioned_shards`."""
        fields = await self._answered(
            cast("Awaitable[list[bytes]]", self._client.hkeys(self.keys.positions))
        )
        prefix = f"{stream}/"
        return {
            name.removeprefix(prefix)
            for name in (field.decode() for field in fields)
            if name.startswith(prefix)
        }

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        """See `StateStore.forget_shards`."""
        if shards:
            fields = [f"{stream}/{shard}" for shard in shards]
            await self._answered(self._client.hdel(self.keys.positions, *fields))
            for field in fields:
                # Their children have taken over the timers; what is left is the event clock.
                _, state = await self.due_timers(field, "wall", 0, 0)
                if not state.pending:
                    await self._answered(self._client.delete(self.keys.timers(field)[0]))

    async def due_timers(
        self, shard: str, clock: Clock, until: int, limit: int
    ) -> tuple[list[Timer], TimerState]:
        """See `StateStore.due_timers`.

        Raises:
            StreamprocError: a stored timer cannot be read.
        """
        everything, by_event, by_wall = self.keys.timers(shard)
        due = by_event if clock == "event" else by_wall
        payloads, *rest = await self._run(
            self._timers, [everything, due, by_event, by_wall], [until, limit]
        )
        try:
            return [_decode_timer(payload) for payload in payloads], _timer_state(*rest)
        except msgspec.MsgspecError as error:
            raise StreamprocError(
                f"a timer of {shard} at {everything} cannot be read ({error}); this version did "
                "not write it: mend it, or take its name out of the hash and out of the set "
                f"{due}"
            ) from error

    async def inherit_timers(self, parent: str, child: str, low: str, high: str) -> int:
        """See `StateStore.inherit_timers`."""
        theirs, ours = self.keys.timers(parent), self.keys.timers(child)
        cursor, moved = 0, 0
        while True:
            answer: Any = await self._answered(
                self._client.hscan(theirs[0], cursor, count=_TIMERS_A_PAGE)
            )
            cursor, page = answer
            names = [
                name
                for name, payload in page.items()
                if name != b"clock" and low <= _decode_timer(payload).hash <= high
            ]
            if page:
                (count,) = await self._run(self._inherit, [*theirs, *ours], names)
                moved += count
            if not cursor:
                return moved

    def now_ms(self) -> int:
        """See `StateStore.now_ms`: Redis's clock, as of its last answer that told it."""
        return int(self._now_ms())

    async def incarnation(self) -> str | None:
        """Return this store's id; None before the first shard of the group was adopted in it.

        Raises:
            StateStoreError: Redis does not answer.
        """
        value = await self._answered(self._client.get(self.keys.incarnation))
        return None if value is None else cast(bytes, value).decode()

    async def queue(self, partition_key: str, most: int) -> Queue:
        """See `StateStore.queue`."""
        key = self.keys.parked_list(partition_key)
        length: int = await self._answered(self._client.llen(key))
        records: Any = self._client.lrange(key, 0, most - 1)
        return Queue(length, await self._answered(records))

    async def wanted(self, most: int) -> Wanted:
        """See `StateStore.wanted`."""
        asking: Any = self._client.srandmember(self.keys.redrive, most)
        keys = [key.decode() for key in await self._answered(asking)]
        counting = self._client.hlen(self.keys.parked)
        return Wanted(keys, await self._answered(counting))

    async def forget_wanted(self, partition_key: str) -> None:
        """See `StateStore.forget_wanted`."""
        removing: Any = self._client.srem(self.keys.redrive, partition_key)
        await self._answered(removing)

    async def outbox_size(self) -> int:
        """See `StateStore.outbox_size`."""
        return int(await self._answered(self._client.xlen(self.keys.outbox)))

    async def ping(self) -> None:
        """Make sure that Redis answers.

        Raises:
            StateStoreError: it does not.
        """
        await self._answered(self._client.ping())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _run(
        self, script: Any, keys: Sequence[str | bytes], arguments: list[Any]
    ) -> list[Any]:
        return await self._answered(cast("Awaitable[list[Any]]", script(keys=keys, args=arguments)))

    async def _answered(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StateStoreError:
        return StateStoreError(
            f"Redis at {redis_address(self._client)}: {str(error) or type(error).__name__}; "
            "check redis.url and that the server accepts writes"
        )

    def _now_ms(self) -> float:
        return time.time() * 1000 + self._clock_lead_ms

    def _note_clock(self, redis_ms: int) -> None:
        self._clock_lead_ms = redis_ms - time.time() * 1000


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _parked(version: bytes, keys: Sequence[bytes]) -> Parked:
    return Parked(version.decode(), frozenset(key.decode() for key in keys))


def _position(text: bytes) -> Position | None:
    return Position.decode(text.decode()) if text else None


def _timer_state(next_event: Any, next_wall: Any, event_clock: Any, pending: int) -> TimerState:
    return TimerState(
        _milliseconds(next_event), _milliseconds(next_wall), _milliseconds(event_clock), pending
    )


def _milliseconds(text: bytes) -> int | None:
    return int(text) if text else None


def _fenced(shard: str, epoch: int, newer: int) -> Fenced:
    return Fenced(f"{shard}: epoch {epoch} is fenced off by epoch {newer}", newer)
