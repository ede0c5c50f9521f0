"""Takes, keeps and gives up leases for one worker: the IO around the pure rules of this package."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random

from streamproc.config import LeaseConfig
from streamproc.errors import LeaseStoreError
from streamproc.leases import assignment
from streamproc.leases.held import HeldLease
from streamproc.leases.keeper import LeaseKeeper
from streamproc.leases.lease import (
    Lease,
    LeaseStore,
    asked_to_hand_over,
    ended,
    released,
    renewed,
    taken,
)
from streamproc.leases.listener import Listener
from streamproc.leases.outlook import Outlook
from streamproc.leases.pace import renewal_interval
from streamproc.leases.roster import Roster
from streamproc.leases.shard_sync import children_to_create
from streamproc.leases.statistics import LeaseStatistics, Tally
from streamproc.leases.watched_store import WatchedStore
from streamproc.position import Position

__all__ = ["LeaseCoordinator", "Listener"]

log = logging.getLogger("streamproc.leases")


class LeaseCoordinator:
    """Keeps this worker's share of the leases; runs in one event loop and starts no thread.

    Invariants: the epoch of each acquisition of a lease is greater than every earlier one's. A
    lease whose last successful write was sent more than `config.duration` ago by this worker's
    clock is lost: the listener is told, and it is not written again under the old epoch.

    Failures of the store are counted, logged once per change of condition, and tried again. Any
    other exception is a defect and ends `run`.

    Args:
        store: where the leases are; closed by whoever opened it.
        worker_id: unique in the group; a restart under the same id resumes its leases at once.
        config: the lease settings.
        listener: told of leases acquired, lost and asked for.
        roster: where the workers' heartbeats are, if they renew all their leases at once.
        clock: monotonic seconds.
        sleep: waits for seconds.
        rng: spreads workers in time and over leases.
    """

    def __init__(
        self,
        store: LeaseStore,
        worker_id: str,
        config: LeaseConfig,
        listener: Listener,
        *,
        roster: LeaseStore | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Random | None = None,
    ) -> None:
        self._me = worker_id
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._rng = Random() if rng is None else rng
        self._tally = Tally()
        self._store = WatchedStore(store, worker_id, config.duration, self._tally)
        metered = getattr(store, "metered", False)
        self._roster = None if roster is None else self._open_roster(roster)
        self._keeper = LeaseKeeper(
            self._store,
            worker_id,
            config,
            listener,
            self._tally,
            clock,
            sleep,
            self._rng,
            self._roster,
            metered=metered,
        )
        self._outlook = Outlook(
            self._store,
            worker_id,
            config,
            self._keeper,
            self._roster,
            clock,
            self._rng,
            metered=metered,
        )
        self._taking = True
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # The life of the coordinator.

    async def run(self) -> None:
        """Scan, take, renew and checkpoint until `stop` is called."""
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(self._scan_loop(), name="lease-scan"),
                    group.create_task(self._keeper.keep_loop(), name="lease-keep"),
                    group.create_task(self._keeper.fence_loop(), name="lease-fence"),
                ]
                if self._roster is not None:
                    beats = self._roster.beat_loop(self._session_over)
                    loops.append(group.create_task(beats, name="lease-heartbeat"))
                try:
                    await self._stopping.wait()
                finally:
                    # A store may swallow a cancellation (redis-py does, through Python 3.11's
                    # wait_for, when its answer comes at that moment): then the flag ends the loop.
                    self._stopping.set()
                    self._wake.set()
                    for loop in loops:
                        loop.cancel()
        finally:
            self._idle.set()

    def stop_taking(self) -> None:
        """Take and ask for no more leases; those held are kept until they are released."""
        self._taking = False

    async def stop(self) -> None:
        """End `run`, and give up every lease that still names this worker; tries each once.

        Call it after the shards were released: leases still held are released at their last noted
        positions, without a word to the listener.
        """
        self._taking = False
        self._stopping.set()
        await self._idle.wait()
        held = [held for key in self._keeper.keys if (held := self._keeper.find(key))]
        errors = await self._store.each(held, self._keeper.release_once)
        try:
            errors += await self._store.each(await self._store.list(), self._disown)
            if self._roster is not None:
                await self._roster.leave()
        except LeaseStoreError as error:
            errors.append(error)
        if errors:
            log.warning("%s: stopped, but could not give up all leases: %s", self._me, errors[0])

    # What the engine asks for.

    def note_position(
        self, key: str, position: Position, incarnation: str | None, epoch: int | None = None
    ) -> None:
        """Remember a shard's committed position for the next checkpoint; safe from any thread.

        Args:
            key: the lease key.
            position: every record up to it is committed.
            incarnation: id of the Redis that holds the commit.
            epoch: the caller's epoch; when given, a note of another ownership is dropped.
        """
        self._keeper.note(key, position, incarnation, epoch)

    async def release(
        self,
        key: str,
        position: Position | None = None,
        incarnation: str | None = None,
        epoch: int | None = None,
    ) -> bool:
        """Checkpoint and give up a lease in one write: to the worker that asked, or to nobody.

        Tries again while the store fails, until the lease expires.

        Args:
            key: the lease key.
            position: the final position; the last noted one if None.
            incarnation: id of the Redis that holds the commit.
            epoch: the caller's epoch; when given, the lease of another ownership is left alone.

        Returns:
            False when the lease was lost before.
        """
        held = self._keeper.find(key, epoch)
        if held is None:
            return False
        if position is not None:
            self._keeper.note(key, position, incarnation, epoch)
        return await self._keeper.release(held)

    async def finish(self, key: str, children: Sequence[Lease], epoch: int | None = None) -> bool:
        """Create the children's leases, then mark the shard's lease SHARD_END and let it go.

        A merge child is left to the worker that ends the other parent while that parent has no
        lease yet: beside an absent parent lease the child would start too early.

        Returns:
            False when the lease was lost before; the children's leases may exist even so.
        """
        held = self._keeper.find(key, epoch)
        if held is None or not await self._create_children(held, children):
            return False
        names = tuple(child.key for child in children)
        done = await self._keeper.insist(held, lambda lease: ended(lease, names))
        self._wake.set()  # The children may be free to start.
        return done is not None

    async def outrun(self, key: str, epoch: int) -> Lease | None:
        """Raise the lease's counter past `epoch`, and with it this worker's own epoch.

        Needed when Redis holds a higher epoch than the lease, as after a restored lease table.

        Returns:
            The lease as written, whose counter is the new epoch; None when the lease was lost.
        """
        held = self._keeper.find(key)
        if held is None:
            return None
        lease = await self._keeper.insist(held, lambda lease: renewed(lease, epoch + 1))
        if lease is not None:
            held.epoch = lease.counter
        return lease

    async def create(self, leases: Iterable[Lease], until: float | None = None) -> int:
        """Create the leases that do not exist yet, in the order given (parents first).

        Args:
            leases: the rows.
            until: monotonic seconds after which no more are created: what told that they are
                missing is too old by then, and a process that stood still meanwhile must not bring
                back what others have finished and deleted.

        Returns:
            How many were new.

        Raises:
            LeaseStoreError: the store failed; those before the failing one may exist.
        """
        new = 0
        for lease in leases:
            if until is not None and self._clock() >= until:
                break
            new += await self._store.create(lease)
        if new:
            self._wake.set()
        return new

    async def delete(self, leases: Iterable[Lease]) -> int:
        """Delete rows that are still as given; return how many are gone.

        Raises:
            LeaseStoreError: the store failed; those before the failing one may be gone.
        """
        return sum([await self._store.delete(lease) for lease in leases])

    async def leases(self) -> list[Lease]:
        """Return all leases as they are stored now; `snapshot` is cheaper where that is enough.

        Raises:
            LeaseStoreError: the store failed.
        """
        return await self._store.list()

    def valid_until(self, key: str) -> float:
        """Return the monotonic time in seconds until which the lease is mine; 0.0 if it is not."""
        held = self._keeper.find(key)
        return 0.0 if held is None else self._keeper.valid_until(held)

    def is_valid(self, key: str) -> bool:
        """Whether the lease is mine now by my own clock; safe from any thread."""
        return self._clock() < self.valid_until(key)

    def snapshot(self) -> tuple[Lease, ...]:
        """Return all leases as of the last scan."""
        return self._outlook.leases

    def scanned_at(self) -> float:
        """Return when the last successful scan was sent, in monotonic seconds; 0.0 before any."""
        return self._outlook.asked_at

    def statistics(self) -> LeaseStatistics:
        """Return the counts so far."""
        return self._tally.statistics(len(self._keeper), self._store.healthy)

    # Scanning: see the table, plan, act.

    async def _scan_loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            # The store counts and logs its failures; the next scan is the next try.
            with contextlib.suppress(LeaseStoreError):
                await self._scan()
            await self._pause()

    async def _pause(self) -> None:
        """Wait for the next scan, or until there is work that is known of."""
        sleeper = asyncio.ensure_future(self._sleep(self._outlook.pause()))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    async def _scan(self) -> None:
        if not await self._outlook.look():
            return
        self._tally.count("scans")
        changed = [row for row in self._outlook.leases if self._differs(row)]
        await self._store.each(changed, self._look_again)
        plan = self._outlook.plan()
        if self._roster is not None and self._taking and (plan.take or plan.request):
            await self._roster.join()
        await self._store.each(plan.let_go, self._disown)
        await self._store.each(plan.take, self._take)
        await self._store.each(plan.request, self._request)

    def _session_over(self) -> None:
        self._keeper.lose_all()
        self._wake.set()

    @property
    def _may_take(self) -> bool:
        return self._taking and (self._roster is None or self._roster.is_valid)

    def _open_roster(self, store: LeaseStore) -> Roster:
        roster = Roster(
            WatchedStore(store, self._me, self._config.duration, self._tally),
            self._me,
            self._config.duration,
            renewal_interval(self._config),
            lambda: self._store.changes,
            self._tally,
            self._clock,
            self._sleep,
            self._rng,
        )
        self._store.on_change = roster.tell
        return roster

    def _differs(self, row: Lease) -> bool:
        held = self._keeper.find(row.key)
        return held is not None and (row.owner, row.checkpoint_owner) != (
            held.lease.owner,
            held.lease.checkpoint_owner,
        )

    async def _look_again(self, row: Lease) -> None:
        """Renew a lease whose row looks changed: the answer tells a request or a loss early."""
        held = self._keeper.find(row.key)
        if held is not None:
            await self._keeper.keep(held)

    async def _take(self, row: Lease) -> None:
        if not self._may_take or self._keeper.find(row.key) is not None:
            return
        sent = self._clock()
        mine = taken(row, self._me)
        if await self._store.replace(row, mine) != mine:
            self._tally.count("take_conflicts")
            return
        if row.owner == self._me and row.checkpoint_owner not in (None, self._me):
            self._tally.count("forced")
        log.info("%s: took %s (epoch %d)", self._me, row.key, mine.counter)
        self._keeper.add(mine, sent)

    async def _request(self, row: Lease) -> None:
        wanted = asked_to_hand_over(row, self._me)
        if not self._may_take:
            return
        if await self._store.replace(row, wanted) != wanted:
            self._tally.count("take_conflicts")
            return
        self._tally.count("requested")
        log.info("%s: asked %s to hand over %s", self._me, row.owner, row.key)

    async def _disown(self, row: Lease) -> None:
        """Give up what a row says I have or want, and I do not hold."""
        if row.is_finished or self._keeper.find(row.key) is not None:
            return
        if row.processor == self._me:
            await self._store.replace(row, released(row))
        elif row.owner == self._me:
            await self._store.replace(row, assignment.withdrawn(row))

    async def _create_children(self, held: HeldLease, children: Sequence[Lease]) -> bool:
        while not self._keeper.fence(held):
            try:
                # A merge child depends on its other parent's lease, maybe newer than the last scan.
                merged = any(len(child.parents) > 1 for child in children)
                leases = await self._store.list() if merged else []
                until = self._keeper.valid_until(held)
                await self.create(children_to_create(children, held.key, leases), until)
                return not self._keeper.fence(held)
            except LeaseStoreError:
                await self._keeper.back_off()
        return False
