"""The workers of a group, one row each: a heartbeat that renews all leases of a worker at once.

Where leases are renewed one by one, a lease's counter is its heartbeat. Here a lease's row changes
only when something happens to it, and its owner's row in the *roster* says that the owner lives. A
thousand leases then cost no more writes than one. Only for tables that no KCL worker shares: KCL
takes a lease whose counter stands still for expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import msgspec

from streamproc.errors import LeaseStoreError
from streamproc.leases.lease import Lease
from streamproc.leases.statistics import Tally
from streamproc.leases.watched_store import WatchedStore
from streamproc.position import Position

__all__ = ["Roster"]

log = logging.getLogger("streamproc.leases")


class Roster:
    """This worker's row in the roster, and what it knows of the others' rows.

    A row is kept in a `LeaseStore` of its own, with the guarantees of that contract: `key` is the
    worker, `owner` its *session*, an id drawn anew whenever the worker joins, `counter` the
    heartbeat, and `checkpoint` the number of changes that the worker has made to leases, so that
    others need not read the lease table to know that nothing happened.

    Invariants: a worker takes leases only within a session. A session ends when the worker leaves
    or when another, having seen the heartbeat stand still for the lease duration by its own clock,
    removes the row on condition that it still does. So a heartbeat that succeeds proves that no
    lease of the session was up for taking when it was applied, as a lease's own renewal does.

    Args:
        store: keeps the rows; reads must be consistent.
        worker_id: unique in the group.
        duration: seconds without a heartbeat after which a session may be ended.
        interval: seconds between heartbeats.
        changes: returns how many changes this worker has made to leases so far.
        tally: where heartbeats and their failures are counted.
        clock: monotonic seconds.
        sleep: waits for seconds.
        rng: draws session ids.
    """

    def __init__(
        self,
        store: WatchedStore,
        worker_id: str,
        duration: float,
        interval: float,
        changes: Callable[[], int],
        tally: Tally,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        rng: Random,
    ) -> None:
        self._store = store
        self._me = worker_id
        self._duration = duration
        self._interval = interval
        self._changes = changes
        self._tally = tally
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._mine: Lease | None = None
        self._renewed_at = 0.0
        self._unconfirmed: tuple[Lease, float] | None = None
        self._seen: dict[str, Lease] = {}
        self._heard: dict[str, float] = {}
        self._free_since: dict[str, float] = {}
        self._looked_at: float | None = None
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self.joined = asyncio.Event()

    @property
    def renewed_at(self) -> float:
        """When the last successful heartbeat was sent, in monotonic seconds; 0.0 before any."""
        return self._renewed_at

    @property
    def is_valid(self) -> bool:
        """Whether this worker's session lasts, by its own clock."""
        return self._mine is not None and self._clock() - self._renewed_at < self._duration

    @property
    def heard(self) -> Mapping[str, float]:
        """When each other worker's heartbeat was last seen to move, in monotonic seconds."""
        return self._heard

    @property
    def free_since(self) -> Mapping[str, float]:
        """Workers whose session has ended, with a time a lease duration before that was seen."""
        return self._free_since

    def tell(self) -> None:
        """Let the others know soon that this worker has changed leases."""
        self._news.set()

    async def join(self) -> None:
        """Begin a session, if there is none, and wait for it.

        Whoever has nothing to take stays off the roster: a stand-by worker costs no write.
        """
        self._wanted.set()
        await self.joined.wait()

    async def beat_loop(self, ended: Callable[[], None]) -> None:
        """Keep a session, once one is wanted; call `ended` when it is over, and begin the next."""
        await self._wanted.wait()
        while True:
            pause = self._duration / 20
            self._news.clear()
            try:
                if not await self.beat():
                    ended()
                elif self.joined.is_set():
                    pause = self._interval
            except LeaseStoreError:
                self._tally.count("renew_failures")
            await self._sleep(self._duration / 50)  # Changes come in bursts: one word for many.
            await self._pause(pause - self._duration / 50)

    async def beat(self) -> bool:
        """Join, or move the heartbeat; False when the session is over.

        Raises:
            LeaseStoreError: the store failed; the heartbeat may have moved.
        """
        if self._mine is None:
            await self._join()
            return True
        while self.is_valid:
            sent, base = self._clock(), self._mine
            changes = Position(str(self._changes()))
            new = msgspec.structs.replace(base, counter=base.counter + 1, checkpoint=changes)
            if self._unconfirmed is not None and self._unconfirmed[0] == new:
                # The same once more: the answer cannot tell which of them has landed.
                sent = self._unconfirmed[1]
            self._unconfirmed = (new, sent)
            row = await self._store.replace(base, new)
            if row is None or row.owner != base.owner:
                break
            self._mine, self._unconfirmed = row, None
            if row == new:
                self._renewed_at = sent
                self._tally.count("renewals")
                return True
            # An earlier heartbeat whose answer was lost had landed: nobody else writes this row.
        # Ended by another worker, or too old by this one's own clock to be resumed.
        self._mine = None
        self.joined.clear()
        return False

    async def look(self) -> bool:
        """Look at the other workers, and end the sessions of those that are silent for too long.

        Returns:
            Whether a worker came, went, or has changed leases since the last look.

        Raises:
            LeaseStoreError: the store failed.
        """
        rows = {row.key: row for row in await self._store.list() if row.key != self._me}
        now = self._clock()
        # A worker that could not look for long knows nothing of the others' heartbeats meanwhile.
        blind = self._looked_at is not None and now - self._looked_at > self._duration
        self._looked_at = now
        changed = rows.keys() != self._seen.keys()
        for key in self._seen.keys() - rows.keys():
            self._gone(key, now)
        for key, row in rows.items():
            before = self._seen.get(key)
            if (
                blind
                or before is None
                or (row.owner, row.counter) != (before.owner, before.counter)
            ):
                self._heard[key] = now
            changed |= before is None or (row.owner, row.checkpoint) != (
                before.owner,
                before.checkpoint,
            )
            self._free_since.pop(key, None)
        self._seen = rows
        silent = [key for key in rows if now - self._heard[key] >= self._duration]
        for key in silent:
            changed |= await self._retire(key)
        return changed

    def next_expiry(self, now: float) -> float | None:
        """Return when the next silent worker's session may be ended, in monotonic seconds."""
        times = [heard + self._duration for heard in self._heard.values()]
        return min((time for time in times if time > now), default=None)

    async def leave(self) -> None:
        """End the session: whatever still names this worker is free.

        Raises:
            LeaseStoreError: the store failed; the session then ends by its silence.
        """
        mine, self._mine = self._mine, None
        self.joined.clear()
        if mine is None or await self._store.delete(mine):
            return
        # A heartbeat whose answer was lost has moved the row on.
        for row in await self._store.list():
            if (row.key, row.owner) == (self._me, mine.owner):
                await self._store.delete(row)

    async def _join(self) -> None:
        sent = self._clock()
        mine = Lease(
            key=self._me,
            owner=f"{self._rng.getrandbits(64):016x}",
            counter=1,
            checkpoint=Position(str(self._changes())),
        )
        if not await self._store.create(mine):
            # A life of mine before this one, or one of another process that was given my name.
            old = next((row for row in await self._store.list() if row.key == self._me), None)
            if old is None:
                return
            mine = msgspec.structs.replace(mine, counter=old.counter + 1)
            if await self._store.replace(old, mine) != mine:
                return
        self._mine, self._renewed_at = mine, sent
        self.joined.set()

    async def _retire(self, key: str) -> bool:
        row = self._seen[key]
        now = self._clock()
        if not await self._store.delete(row):
            self._heard[key] = now
            return False
        log.warning("%s: ended the session of %s: no heartbeat in time", self._me, key)
        del self._seen[key]
        self._gone(key, now)
        return True

    def _gone(self, key: str, now: float) -> None:
        self._heard.pop(key, None)
        self._free_since[key] = now - self._duration

    async def _pause(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._sleep(max(0.0, seconds)))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((sleeper, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            news.cancel()
