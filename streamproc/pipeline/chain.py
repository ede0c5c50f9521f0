"""One partition's commits for one shard: check, dispatch, commit, again where that says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from streamproc.context import Item
from streamproc.errors import Fenced, StateStoreError, TooFewReplicas
from streamproc.pipeline.decode import DecodedBatch
from streamproc.pipeline.dispatch import Dispatched, Dispatcher, Failure
from streamproc.pipeline.engine import Engine, Moved
from streamproc.pipeline.letters import Letters
from streamproc.pipeline.parking import Redrive, by_partition_key
from streamproc.pipeline.patience import until_answered
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.tally import Tally
from streamproc.pipeline.timers import ShardTimers
from streamproc.pipeline.trust import Trust
from streamproc.position import Position
from streamproc.state.parking import Parked
from streamproc.state.store import Checked, Commit, CommitResult
from streamproc.state.timers import TimerState

__all__ = ["Chain", "ChainStart", "Unfinished"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# Reruns that a batch gets because of conflicts before it is cut in half.
_MOST_CONFLICTS: Final = 3
_CONFLICT_DELAY_S: Final = 0.05
_ROOM_DELAY_S: Final = 0.2
# Records of a parked key in one transaction.
_MOST_REDRIVEN: Final = 100

_UNCHECKED: Final = Checked(0, set(), Parked(), 0)
"""Of a batch without events: there is nothing to look up, and it relies on nothing."""


Unfinished = Failure | Literal["contended"]
"""Why a batch was not committed: its handler halts the shard, or others write what it reads."""


class ChainStart(msgspec.Struct, frozen=True):
    """Where a partition of a shard is, and its timers, as its adoption told."""

    position: Position
    timers: TimerState = TimerState()


class Chain:
    """Commits one partition's share of a shard's batches, each from where the one before ended.

    Invariant: `position` is the last position that the store is known to hold for the shard in
    this partition.

    Attributes:
        position: see above.
        waits_for_room: whether a commit waits until the outbox is below its limit.
    """

    def __init__(
        self,
        engine: Engine,
        partition: int,
        shard_id: str,
        epoch: int,
        start: ChainStart,
        statistics: ShardStatistics,
    ) -> None:
        self.position = start.position
        self.waits_for_room = False
        self._engine = engine
        self._partition = partition
        self._store = engine.stores[partition]
        self._shard_id = shard_id
        self._field = f"{engine.stream}/{shard_id}"
        self._epoch = epoch
        self._statistics = statistics
        self._trust = Trust(engine.clock)
        self.timers = ShardTimers(
            self._store,
            self._field,
            engine.routes,
            partition,
            engine.cache,
            start.timers,
            self._persist,
        )
        self._letters = Letters(engine.group, engine.stream, shard_id)
        self._tally = Tally(statistics, self._field, engine.wall_clock, self._store.now_ms)
        self._dispatcher = Dispatcher(
            engine.routes,
            engine.group,
            engine.stream,
            shard_id,
            engine.concurrency,
            engine.sleep,
            engine.rng,
            engine.wall_clock,
            self.timers.ensure_deliverable,
        )

    async def run(self, batch: DecodedBatch, end: Position, started: float) -> Unfinished | None:
        """Process and commit a batch that follows `position` and reaches `end`.

        Returns None once it is committed. Nothing is committed where a `Failure` is returned,
        which halts the shard, or ``contended``: others keep changing what this batch reads, and a
        smaller one is to be tried; a batch of a single event goes on trying.

        Args:
            batch: what belongs to this partition.
            end: the position that the batch reaches.
            started: `time.perf_counter` at the beginning of the batch, for statistics.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        batch = await self.timers.add_to(batch)
        async with self._engine.gate.hold(batch.cells.keys()):
            try:
                result = await self._run_until_committed(batch, end)
            except BaseException:
                # Cut off anywhere, handlers may have changed values that other shards share, and
                # nobody knows whether a commit was applied: forget all of it.
                self._drop(batch)
                raise
        if not isinstance(result, Dispatched):
            if result == "contended":
                self.timers.fewer()
            return result
        self._tally.batch(batch, result, started)
        return None

    def rewind(self, start: ChainStart) -> None:
        """Go on from where the store says the partition is."""
        self.position = start.position
        self.timers.note(start.timers)

    async def fire(self) -> Unfinished | None:
        """Handle timers that are due where the partition is; see `run`."""
        return await self.run(DecodedBatch([]), self.position, time.perf_counter())

    async def advance(self, end: Position) -> None:
        """Commit that nothing up to `end` belongs to this partition.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        if self.position != end:
            await self._commit(DecodedBatch([]), end, _UNCHECKED, Dispatched([], [], [], []))

    async def redrive(self, key: str) -> bool:
        """Process the oldest records of a parked key, in order; True when there may be more.

        They are taken off in the commit that they take effect in, which leaves the position as it
        is. The first that fails again stays at the head, and the key stays parked.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        queue = await self._persist(lambda: self._store.queue(key, _MOST_REDRIVEN))
        if not queue.records:
            await self._persist(lambda: self._store.forget_wanted(key))
            return False
        started = time.perf_counter()
        redrive = Redrive(key, queue)
        batch = redrive.decode(self._engine, self._shard_id, self._partition)
        async with self._engine.gate.hold(batch.cells.keys()):
            try:
                result = await self._run_until_committed(batch, self.position, redrive)
            except BaseException:
                self._drop(batch)
                raise
        if not isinstance(result, Dispatched):
            return True  # somebody else was at the list, or at the states: look again
        redriven = redrive.outcome(result, self._letters.parked(batch, result, redrive))
        undecodable = redrive.dead(batch, redriven)
        self._tally.redriven(batch, result, redriven, undecodable, started)
        return not (redriven.empties or redriven.head)

    async def _run_until_committed(
        self, batch: DecodedBatch, end: Position, redrive: Redrive | None = None
    ) -> Dispatched | Unfinished:
        conflicts = 0
        # A limit on the outbox needs to know its size, which the check tells.
        unlimited = self._engine.outbox_limit is None
        trusted = redrive is None and unlimited and self._trust.covers(batch)
        while True:
            checked, items = await self._check(batch, redrive, trusted)
            behind: list[Item] = []
            if redrive is None and checked.parked.keys:
                behind = [item for item in items if item.is_behind(checked.parked.keys)]
                items = [item for item in items if not item.is_behind(checked.parked.keys)]
            result = await self._dispatch(batch, items)
            result.behind += behind
            if trusted and result.failures:
                # Perhaps what failed is a duplicate, which is nobody's failure.
                self._trust.broken()
                batch.reset()
                trusted = False
                continue
            for failure in result.failures:
                if failure.fate == "halt" and redrive is None:
                    self._drop(batch)
                    return failure
            await self._wait_for_room(checked, result)
            outcome = await self._commit(batch, end, checked, result, redrive)
            if outcome == "OK":
                if trusted:
                    self._trust.held()
                return result
            if outcome == "PARKING" and redrive is not None:
                self._drop(batch)
                return "contended"
            if trusted:
                self._trust.broken()
            batch.reset()
            trusted = False
            self._statistics.reruns += 1
            if outcome == "CONFLICT":
                conflicts += 1
                if conflicts >= _MOST_CONFLICTS:
                    if len(batch.items) > 1:
                        self._drop(batch)
                        return "contended"
                    # Every conflict is somebody else's success; still, let them get ahead.
                    await self._engine.sleep(self._engine.rng.random() * _CONFLICT_DELAY_S)

    async def _dispatch(self, batch: DecodedBatch, items: Sequence[Item]) -> Dispatched:
        """Run the handlers, without timers that an earlier event of the batch changes."""
        while True:
            result = await self._dispatcher.run(batch, items)
            if not batch.has_timers or not result.settings:
                return result
            earlier = {setting.name: setting.order for setting in reversed(result.settings)}
            due = [
                item
                for item in items
                if item.timer is None or earlier.get(item.timer.name, item.order) >= item.order
            ]
            if len(due) == len(items):
                return result
            items = due
            batch.reset()

    async def _check(
        self, batch: DecodedBatch, redrive: Redrive | None, trusted: bool
    ) -> tuple[Checked, list[Item]]:
        """Load the batch's states; return what the store tells, and the items not yet committed."""
        if not batch.items and redrive is None:
            return _UNCHECKED, []
        cells, counters = list(batch.cells.values()), list(batch.counters.values())
        digests: list[bytes] = []
        if trusted:
            cells = [cell for cell in cells if not cell.is_held]
            if not (cells or counters) and self._trust.is_fresh:
                return self._trust.recall(self._store.bucket()), batch.items
        else:
            digests = [item.digest for item in batch.items]
        started = time.perf_counter()
        checked = await self._persist(lambda: self._store.check(digests, cells, counters))
        self._statistics.check_seconds.observe(time.perf_counter() - started)
        self._trust.checked(checked)
        committed = checked.committed
        if not committed:
            return checked, batch.items
        return checked, [item for at, item in enumerate(batch.items) if at not in committed]

    async def _wait_for_room(self, checked: Checked, result: Dispatched) -> None:
        """Wait for as long as the outbox is full, if the batch has something to put there."""
        limit = self._engine.outbox_limit
        if limit is None or not result.emissions or checked.outbox < limit:
            return
        log.warning(
            "%s: the outbox holds %d events, and outbox.max_entries is %d; waiting until its sink "
            "or reader has taken some",
            self._field,
            checked.outbox,
            limit,
        )
        self._statistics.outbox_waits += 1
        self.waits_for_room = True
        try:
            while True:
                delay = _ROOM_DELAY_S * (0.5 + self._engine.rng.random())
                await self._engine.sleep(delay)
                self._statistics.outbox_wait_seconds += delay
                if await self._persist(self._store.outbox_size) < limit:
                    return
        finally:
            self.waits_for_room = False

    async def _commit(
        self,
        batch: DecodedBatch,
        end: Position,
        checked: Checked,
        result: Dispatched,
        redrive: Redrive | None = None,
    ) -> Literal["OK", "PARKING", "DUPLICATE", "CONFLICT"]:
        """Commit; unless OK, nothing was written and the batch must run again.

        Raises:
            Moved: the store's position is not ours.
            Fenced: a newer owner has the shard.
        """
        changes, event_clock = self.timers.changes(batch, result.settings)
        parked = self._letters.parked(batch, result, redrive)
        dead, park, redriven = batch.dead, by_partition_key(parked), None
        if redrive is not None:
            park, redriven = {}, redrive.outcome(result, parked)
            dead = redrive.dead(batch, redriven)
        dead = [*dead, *self._letters.dead(batch, result, redrive)]
        commit = Commit(
            shard=self._field,
            epoch=self._epoch,
            start=self.position,
            end=end,
            bucket=checked.bucket,
            digests=[item.digest for item in result.items]
            + [failure.item.digest for failure in result.failures if failure.item.timer],
            cells=result.states,
            counters=result.counters,
            outbox=result.emissions,
            dead_letters=[letter.fields() for letter in dead],
            parked=None if checked is _UNCHECKED else checked.parked,
            park=park,
            redriven=redriven,
            timers=changes,
            event_clock=event_clock,
        )
        is_timed = bool(changes) or event_clock is not None
        errors_before = self._statistics.store_errors
        started = time.perf_counter()
        done = await self._persist(lambda: self._store.commit(commit))
        while done.outcome == "PARKING" and not _concerns(batch, commit, done):
            # Keys of other shards: nothing that this batch relied on.
            commit.parked = done.parked
            self._trust.parked(commit.parked)
            done = await self._persist(lambda: self._store.commit(commit))
        self._statistics.commit_seconds.observe(time.perf_counter() - started)
        repeated = self._statistics.store_errors > errors_before
        if repeated and _was_applied(commit, done):
            # The first try was applied and its answer lost; which versions it wrote is unknown.
            self._drop(batch)
            self.position = end
            if is_timed:
                self.timers.note(None)
            return "OK"
        if done.outcome == "MOVED":
            raise Moved(self._field, self.position, done.position)
        if done.outcome == "CONFLICT":
            self._statistics.conflicts += 1
        if done.outcome == "OK":
            self.position = end
            if is_timed:
                self.timers.note(done.timers)
            self._engine.cache.keep([cell for cell, _ in result.states])
            self._engine.cache.keep([counter.stored for counter in batch.counters.values()])
        return done.outcome

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        engine = self._engine
        try:
            return await until_answered(
                call, self._field, engine.sleep, engine.rng, self._count_store_error
            )
        except Fenced:
            self._statistics.fenced += 1
            raise

    def _count_store_error(self, error: StateStoreError) -> None:
        self._statistics.store_errors += 1
        self._statistics.replica_shortfalls += isinstance(error, TooFewReplicas)

    def _drop(self, batch: DecodedBatch) -> None:
        batch.reset()
        self._engine.cache.discard(batch.cells.values())
        self._engine.cache.discard([counter.stored for counter in batch.counters.values()])


def _concerns(batch: DecodedBatch, commit: Commit, done: CommitResult) -> bool:
    """Whether what changed of what is parked is a key of the batch, or the list that it takes."""
    assert commit.parked is not None, "only a commit that minds what is parked ends in PARKING"
    assert done.parked is not None, "PARKING tells what is parked"
    if commit.redriven is not None:
        return done.waiting != commit.redriven.length
    changed = commit.parked.keys ^ done.parked.keys
    return any(item.partition_key in changed for item in batch.items)


def _was_applied(commit: Commit, repeated: CommitResult) -> bool:
    """Whether the answer to a repeated commit says that an earlier try was applied.

    One that moves the position is met by its own end. One that has only timers leaves the position
    as it is, and is met by its own marks; one that redrives, by the length that it left.
    """
    redriven = commit.redriven
    if redriven is not None:
        return repeated.outcome == "PARKING" and repeated.waiting == redriven.length - redriven.done
    if repeated.outcome == "MOVED":
        return repeated.position == commit.end
    return (
        repeated.outcome == "DUPLICATE"
        and commit.start == commit.end
        and len(repeated.refused) == len(commit.digests)
    )
