"""What a worker sees of the lease table, and what it plans by that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from streamproc.config import LeaseConfig
from streamproc.leases import assignment
from streamproc.leases.keeper import LeaseKeeper
from streamproc.leases.lease import Lease
from streamproc.leases.pace import AUDIT_SCANS, scan_interval
from streamproc.leases.roster import Roster
from streamproc.leases.watched_store import WatchedStore

__all__ = ["Outlook"]


class Outlook:
    """The lease table as this worker saw it last, and when each lease was seen to move.

    Args:
        store: where the leases are.
        worker_id: unique in the group.
        config: the lease settings.
        keeper: the leases that this worker holds.
        roster: where the workers' heartbeats are, if they renew all their leases at once.
        clock: monotonic seconds.
        rng: spreads workers in time and over leases.
        metered: whether the store's reads are billed.

    Attributes:
        leases: every lease, as of the last successful look at the table.
        asked_at: when that was sent, in monotonic seconds; 0.0 before any.
    """

    def __init__(
        self,
        store: WatchedStore,
        worker_id: str,
        config: LeaseConfig,
        keeper: LeaseKeeper,
        roster: Roster | None,
        clock: Callable[[], float],
        rng: Random,
        *,
        metered: bool,
    ) -> None:
        self.leases: tuple[Lease, ...] = ()
        self.asked_at = 0.0
        self._store = store
        self._me = worker_id
        self._config = config
        self._keeper = keeper
        self._roster = roster
        self._clock = clock
        self._rng = rng
        self._metered = metered
        self._changes_seen = 0
        self._observed: dict[str, assignment.Observed] = {}
        self._read_at: float | None = None
        self._watched_at: float | None = None

    async def look(self) -> bool:
        """Read the table, unless the roster tells that there is nothing to see; tell whether.

        Raises:
            LeaseStoreError: the store failed.
        """
        if self._roster is not None and not await self._has_news(self._roster):
            return False
        asked, changes = self._clock(), self._store.changes
        leases = await self._store.list()
        now = self._clock()
        self._observe(leases, now)
        self.leases, self.asked_at, self._read_at = tuple(leases), asked, now
        self._changes_seen = changes
        return True

    def plan(self) -> assignment.Plan:
        """Return what to do, as of the last look."""
        assert self._watched_at is not None, "a plan is made after a look"
        return assignment.plan(
            self.leases,
            self._observed,
            self._me,
            self._keeper.keys,
            self._config,
            self._watched_at,
            self._rng,
        )

    def pause(self) -> float:
        """Return the seconds until the next look: the scan interval, or less when a lease expires.

        The two jitters add up to at most the interval, which bounds the take-over time.
        """
        interval, now = self._interval, self._clock()
        pause = interval * self._rng.uniform(0.8, 0.95)
        expiry = assignment.next_expiry(self.leases, self._observed, self._me, self._config, now)
        if self._roster is not None:
            expiry = min(
                (time for time in (expiry, self._roster.next_expiry(now)) if time is not None),
                default=None,
            )
        if expiry is not None:
            pause = min(pause, expiry - now + interval * self._rng.uniform(0.0, 0.05))
        return pause

    @property
    def _interval(self) -> float:
        if self._roster is not None:
            return self._config.scan_interval  # The roster is short, whatever the table's size.
        workers = len({lease.owner for lease in self.leases if lease.owner is not None})
        return scan_interval(self._config, len(self.leases), workers, metered=self._metered)

    async def _has_news(self, roster: Roster) -> bool:
        """Look at the roster, and tell whether the lease table is worth reading."""
        changed = await roster.look()
        now = self._clock()
        if self._read_at is None or changed or self._store.changes != self._changes_seen:
            return True
        if now - self._read_at >= AUDIT_SCANS * self._config.scan_interval:
            return True
        self._observe(self.leases, now)
        plan = self.plan()
        return bool(plan.let_go or plan.take or plan.request)

    def _observe(self, leases: Sequence[Lease], now: float) -> None:
        previous: Mapping[str, assignment.Observed] = self._observed
        if self._was_blind(now):
            previous = {}
        heard = {} if self._roster is None else self._roster.heard
        free_since = {} if self._roster is None else self._roster.free_since
        self._observed = assignment.observe(leases, previous, self._me, now, heard, free_since)
        self._watched_at = now

    def _was_blind(self, now: float) -> bool:
        """Whether this worker could not look for so long that it knows nothing of the others.

        After an outage of the store nobody is expired before having been watched again.
        """
        longest = self._config.duration + self._interval / 10
        return self._watched_at is not None and now - self._watched_at > longest
