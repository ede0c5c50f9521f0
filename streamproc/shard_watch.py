"""Keeps the lease table in step with the stream: what is missing is created, what is over goes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from streamproc.config import StreamConfig
from streamproc.errors import LeaseStoreError, StateStoreError, StreamError, StreamRecreated
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease
from streamproc.leases.shard_audit import HoleWatch, first_hole, foreign_leases, lease_hole
from streamproc.leases.shard_sync import (
    finished_leases_to_delete,
    leases_to_create,
    trimmed_leases_to_delete,
)
from streamproc.position import Position

__all__ = ["ShardWatch", "refuse_foreign_leases"]

log = logging.getLogger(__name__)

_BOOTSTRAP_TRIES: Final = 3
_BOOTSTRAP_PAUSE: Final = 1.0
"""Looks, and seconds between them, at a listing with a hole before it is given up (as KCL)."""

_KEEP_FINISHED: Final = 300.0
"""Seconds that a finished lease is kept once nothing needs it any more (KCL: 5 minutes)."""

_FRESH: Final = 120.0
"""Seconds for which what a look has seen may be acted on.

Less than `_KEEP_FINISHED`: a worker that stood still, or a listing that took long, must not bring
back a lease that has been finished and deleted meanwhile.
"""

_RARELY: Final = 10
"""Each so many looks the stream's age is asked for, and positions of trimmed shards go."""


class LeaseTable(Protocol):
    """What a watch needs of the lease coordinator."""

    def snapshot(self) -> Sequence[Lease]:
        """Return all leases as of the last scan; empty before the first."""
        ...

    async def leases(self) -> list[Lease]:
        """Return all leases as they are stored now."""
        ...

    def scanned_at(self) -> float:
        """Return when the last scan was sent, in monotonic seconds."""
        ...

    async def create(self, leases: Iterable[Lease], until: float | None = None) -> int:
        """Create the leases that do not exist yet, in the order given, and none after `until`."""
        ...

    async def delete(self, leases: Iterable[Lease]) -> int:
        """Delete rows that are still as given."""
        ...


class Positions(Protocol):
    """What a watch needs of a partition's state store."""

    async def positioned_shards(self, stream: str) -> set[str]:
        """Return the shards of a stream that have a committed position."""
        ...

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        """Drop the positions of shards that nobody can read any more."""
        ...


class ShardWatch:
    """Looks at stream and lease table again and again; every worker has one, none leads.

    All it writes is conditional, and each decision follows from what it read, so watches of several
    workers do no harm to each other.

    Args:
        stream: name, where a new group begins, and how often to look.
        initial: `stream.initial_position` as a position.
        kinesis: the stream's API.
        leases: the lease table, by way of the coordinator.
        stores: the state stores; positions of shards that are gone are removed from them.
        keep_finished: seconds that a finished lease which nothing needs is kept.
        fresh: seconds for which what was seen may be acted on; less than `keep_finished`.
        clock: monotonic seconds, the coordinator's.
        wall_clock: seconds since the epoch.
        sleep: waits for seconds.
        rng: spreads the workers' looks.
    """

    def __init__(
        self,
        stream: StreamConfig,
        initial: Position,
        kinesis: KinesisApi,
        leases: LeaseTable,
        stores: Sequence[Positions],
        *,
        keep_finished: float = _KEEP_FINISHED,
        fresh: float = _FRESH,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._stream = stream
        self._initial = initial
        self._kinesis = kinesis
        self._leases = leases
        self._stores = stores
        self._keep_finished = keep_finished
        self._fresh = fresh
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._rng = random.Random() if rng is None else rng
        self._created: int | None = None
        self._holes = HoleWatch()
        self._over_since: dict[str, float] = {}
        self._looks = 0

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            StreamRecreated: the stream is not the one that the leases speak of.
        """
        while True:
            try:
                await self.look()
            except StreamRecreated:
                raise
            except (KinesisError, StreamError, LeaseStoreError, StateStoreError) as error:
                log.warning("%s: could not look for new shards: %s", self._stream.name, error)
            await self._sleep(self._stream.shard_sync_interval * self._rng.uniform(0.8, 1.2))

    async def look(self) -> None:
        """Look once: refuse what is foreign, create what is missing, delete what is over.

        Raises:
            StreamRecreated: the stream is not the one that the leases speak of.
            KinesisError, StreamError: Kinesis could not be asked.
            LeaseStoreError, StateStoreError: a store failed; the rest is done at the next look.
        """
        rarely = self._looks % _RARELY == 0
        self._looks += 1
        if rarely:
            await self._note_age()
        began = self._clock()
        rows: Sequence[Lease] = self._leases.snapshot()
        if rows:
            began = min(began, self._leases.scanned_at())
        else:
            rows = await self._leases.leases()
        if not rows:
            await self._begin(began + self._fresh)
            return
        shards = await self._kinesis.list_shards()
        refuse_foreign_leases(self._stream.name, rows, shards, self._created)
        self._audit(rows)
        await self._create(shards, rows, began + self._fresh)
        await self._delete(rows, shards)
        if rarely:
            await self._forget_positions(rows, shards)

    async def _note_age(self) -> None:
        summary = await self._kinesis.describe_stream()
        created = int(summary.creation_timestamp)
        if self._created not in (None, created):
            raise _recreated(self._stream.name, created, "this worker began with an earlier one")
        self._created = created

    async def _begin(self, until: float) -> None:
        """Create the first leases, if the listing is whole."""
        for _ in range(_BOOTSTRAP_TRIES):
            shards = await self._kinesis.list_shards(at=self._initial)
            hole = first_hole(
                (int(shard.starting_hash_key), int(shard.ending_hash_key)) for shard in shards
            )
            if hole is None:
                await self._create(shards, [], until)
                return
            await self._sleep(_BOOTSTRAP_PAUSE)
        log.error(
            "%s: ListShards names no shard for %s, so the group does not begin; looking again "
            "later. If this stays, the stream is being changed or the endpoint is not Kinesis",
            self._stream.name,
            hole,
        )

    async def _create(
        self, shards: Sequence[ShardInfo], rows: Sequence[Lease], until: float
    ) -> None:
        now = self._wall_clock()
        missing = leases_to_create(shards, rows, self._initial, now, self._created)
        if missing and (new := await self._leases.create(missing, until)):
            log.info("%s: %d new shards", self._stream.name, new)

    async def _delete(self, rows: Sequence[Lease], shards: Sequence[ShardInfo]) -> None:
        """Delete what nothing has needed for long."""
        over = [*finished_leases_to_delete(rows), *trimmed_leases_to_delete(rows, shards)]
        now = self._clock()
        self._over_since = {row.key: self._over_since.get(row.key, now) for row in over}
        late = {r.key: r for r in over if now - self._over_since[r.key] >= self._keep_finished}
        if late and (gone := await self._leases.delete(late.values())):
            log.info("%s: deleted %d leases of finished shards", self._stream.name, gone)

    def _audit(self, rows: Sequence[Lease]) -> None:
        hole = lease_hole(rows)
        if self._holes.see(hole):
            log.error(
                "%s: no lease covers %s, so records there are not read; was a lease deleted by "
                "hand? `streamproc shards --tree` shows the shards and their leases",
                self._stream.name,
                hole,
            )

    async def _forget_positions(self, rows: Sequence[Lease], shards: Sequence[ShardInfo]) -> None:
        """Drop positions of shards that neither Kinesis nor a lease knows.

        Only of those: while Kinesis has a shard's records somebody may come to read them, and its
        position is what keeps them from taking effect twice.
        """
        known = {row.key for row in rows} | {shard.shard_id for shard in shards}
        name = self._stream.name
        for store in self._stores:
            if over := await store.positioned_shards(name) - known:
                await store.forget_shards(name, over)
                log.info("%s: forgot the positions of %d trimmed shards", name, len(over))


def refuse_foreign_leases(
    stream: str, leases: Iterable[Lease], shards: Iterable[ShardInfo], created: int | None
) -> None:
    """Make sure that the leases speak of this very stream.

    Raises:
        StreamRecreated: they speak of an earlier stream of its name; says what to do.
    """
    foreign = foreign_leases(leases, {shard.shard_id: shard for shard in shards}, created)
    if foreign:
        lease = foreign[0]
        age = "" if lease.stream_created is None else f", created at {_utc(lease.stream_created)}"
        evidence = f"{len(foreign)} leases, {lease.key} at {lease.checkpoint} among them, speak of "
        raise _recreated(stream, created, f"{evidence}an earlier one{age}")


def _recreated(stream: str, created: int | None, evidence: str) -> StreamRecreated:
    when = "" if created is None else f" at {_utc(created)}"
    return StreamRecreated(
        f"stream {stream!r} was deleted and created again{when}: {evidence}. Its old positions "
        "mean nothing in the new stream, so nothing is read. To begin it anew, stop all workers, "
        "run `streamproc checkpoints reset --all --yes`, and start them; or give the new stream a "
        "group of its own (`group` in streamproc.toml)"
    )


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
