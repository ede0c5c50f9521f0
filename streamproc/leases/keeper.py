"""Keeps the leases that a worker holds: renews, checkpoints, fences and gives them up."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import msgspec

from streamproc.config import LeaseConfig
from streamproc.errors import LeaseStoreError
from streamproc.leases.held import HeldLease, Verdict, judge
from streamproc.leases.lease import Lease, checkpointed, released, renewed
from streamproc.leases.listener import Listener
from streamproc.leases.pace import checkpoint_interval, renewal_interval
from streamproc.leases.roster import Roster
from streamproc.leases.statistics import Tally
from streamproc.leases.watched_store import WatchedStore
from streamproc.position import Position

__all__ = ["LeaseKeeper"]

log = logging.getLogger("streamproc.leases")

AT_ONCE = 250
"""Most rows in one call of a store that takes many: a server that runs one call after the other is
held up by it for a few ms."""

EARLY = 0.9
"""A write that is due within a tenth of its interval is done at this tick, not at the next."""


class _Attempt(msgspec.Struct, frozen=True):
    """A write: `new` for `base`, as first `sent`, after those `before` it without an answer."""

    base: Lease
    new: Lease
    sent: float
    before: tuple[Lease, ...]


class LeaseKeeper:
    """The held leases and every write to them; one write at a time for each lease.

    Invariant: a lease whose last renewal (or, with a roster, whose worker's last heartbeat) was
    sent more than `duration` ago is dropped, the listener told, and never written again under that
    epoch.
    """

    def __init__(
        self,
        store: WatchedStore,
        worker_id: str,
        config: LeaseConfig,
        listener: Listener,
        tally: Tally,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        rng: Random,
        roster: Roster | None = None,
        *,
        metered: bool = False,
    ) -> None:
        self._store = store
        self._me = worker_id
        self._config = config
        self._listener = listener
        self._tally = tally
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._roster = roster
        self._renewal = renewal_interval(config)
        self._checkpoints = checkpoint_interval(config, metered=metered)
        self._held: dict[str, HeldLease] = {}
        self._noted: dict[str, tuple[Position, str | None]] = {}
        # Before this time no lease can be over: writes move them on only.
        self._none_over_before = math.inf

    def __len__(self) -> int:
        return len(self._held)

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the leases held."""
        return frozenset(self._held)

    def add(self, lease: Lease, sent: float) -> None:
        """Keep a lease from now on; `sent` is when the take was sent, in monotonic seconds."""
        self._held[lease.key] = HeldLease(lease, sent)
        self._none_over_before = min(self._none_over_before, sent + self._config.duration)
        self._tally.count("acquired")
        self._listener.lease_acquired(lease)

    def valid_until(self, held: HeldLease) -> float:
        """Return the monotonic time in seconds until which a held lease is mine; thread-safe."""
        renewed_at = held.written_at if self._roster is None else self._roster.renewed_at
        return renewed_at + self._config.duration

    def lose_all(self) -> None:
        """Drop every lease: the session in which they were taken is over."""
        for held in list(self._held.values()):
            if not self.fence(held):
                self._lose(held, "another worker ended this one's session")

    def find(self, key: str, epoch: int | None = None) -> HeldLease | None:
        """Return the held lease, unless a given epoch is of another ownership."""
        held = self._held.get(key)
        return held if held is not None and epoch in (None, held.epoch) else None

    def note(
        self, key: str, position: Position, incarnation: str | None, epoch: int | None
    ) -> None:
        """Remember a committed position for the next checkpoint; safe from any thread."""
        if self.find(key, epoch) is not None:
            self._noted[key] = (position, incarnation)

    # The two loops.

    async def keep_loop(self) -> None:
        """Renew and checkpoint what is due, for ever."""
        tick = min(self._checkpoints, self._config.duration / 10)
        while True:
            await self._sleep(tick)
            due = self._due()
            if self._store.takes_many:
                parts = [due[at : at + AT_ONCE] for at in range(0, len(due), AT_ONCE)]
                await self._store.each(parts, self._keep_all)
            else:
                await self._store.each(due, self.keep)

    async def fence_loop(self) -> None:
        """Drop expired leases in time, even while every write hangs."""
        while True:
            await self._sleep(self._config.duration / 20)
            for held in self._expired():
                self.fence(held)

    async def keep(self, held: HeldLease) -> None:
        """Renew a lease, with a checkpoint if its position moved."""
        if held.lock.locked():
            return  # It is being given up or outrun; waiting here would hold up the others.
        moved = self._moved(held)
        try:
            async with held.lock:
                if moved is None:
                    await self._write(held, renewed)
                elif await self._write(held, partial(_at, moved)):
                    self._tally.count("checkpoints")
        except LeaseStoreError:
            self._tally.count("renew_failures")

    async def _keep_all(self, due: Sequence[HeldLease]) -> None:
        """Do what `keep` does for leases of a store that takes many writes in one call."""
        writes = []
        for held in due:
            if held.lock.locked() or self.fence(held):
                continue
            moved = self._moved(held)
            change = renewed if moved is None else partial(_at, moved)
            await held.lock.acquire()
            writes.append((held, moved is not None, self._attempt(held, change)))
        if not writes:
            return
        unsettled = []
        try:
            rows = await self._store.replace_all([(tried.base, tried.new) for *_, tried in writes])
            for (held, moves, tried), row in zip(writes, rows, strict=True):
                verdict = self._judged(held, tried, row)
                if verdict is Verdict.WRITTEN and moves:
                    self._tally.count("checkpoints")
                if verdict in (Verdict.STILL_MINE, Verdict.ASKED):
                    unsettled.append(held)
        except LeaseStoreError:
            for _ in writes:
                self._tally.count("renew_failures")
        finally:
            for held, *_ in writes:
                held.lock.release()
        for held in unsettled:
            await self.keep(held)

    def fence(self, held: HeldLease) -> bool:
        """Drop a lease that was not renewed for its duration; True when it is gone."""
        if not held.gone and self._clock() >= self.valid_until(held):
            self._tally.count("fenced")
            self._lose(held, "not renewed in time")
        return held.gone

    # Writes that the engine asks for.

    async def insist(self, held: HeldLease, change: Callable[[Lease], Lease]) -> Lease | None:
        """Write until it succeeds or the lease is gone (None); other writes wait meanwhile."""
        async with held.lock:
            while True:
                try:
                    return await self._write(held, change)
                except LeaseStoreError:
                    await self.back_off()

    async def release(self, held: HeldLease) -> bool:
        """Give up a lease at its last noted position, in one write; False when it is gone."""
        return await self.insist(held, self._at_last(held)) is not None

    async def release_once(self, held: HeldLease) -> None:
        """Give up a lease as `release` does, without a second try."""
        async with held.lock:
            await self._write(held, self._at_last(held))

    async def back_off(self) -> None:
        """Wait before a failed write is tried again."""
        await self._sleep(min(1.0, self._config.duration / 20) * self._rng.uniform(0.5, 1.0))

    # Inside.

    def _at_last(self, held: HeldLease) -> Callable[[Lease], Lease]:
        def change(lease: Lease) -> Lease:
            moved = self._moved(held)
            return released(lease if moved is None else checkpointed(lease, *moved))

        return change

    def _expired(self) -> list[HeldLease]:
        # Of thousands of leases, twenty times in a duration, and nearly always in vain.
        now, duration = self._clock(), self._config.duration
        if self._roster is not None:
            over = now >= self._roster.renewed_at + duration
            return list(self._held.values()) if over else []
        if now < self._none_over_before:
            return []
        oldest = min((held.written_at for held in self._held.values()), default=math.inf)
        self._none_over_before = oldest + duration
        return [held for held in self._held.values() if now >= held.written_at + duration]

    def _due(self) -> list[HeldLease]:
        """Return the leases to be written now: those to be renewed, and those that moved."""
        now, noted = self._clock(), self._noted
        # With a roster the heartbeat renews all leases, and a row is written when there is news.
        renewal = EARLY * (self._renewal if self._roster is None else math.inf)
        checkpoint = min(renewal, EARLY * self._checkpoints)
        return [
            held
            for held in self._held.values()
            if (age := now - held.written_at) >= renewal
            or (age >= checkpoint and held.key in noted and self._moved(held) is not None)
        ]

    def _moved(self, held: HeldLease) -> tuple[Position, str | None] | None:
        """Return the noted position that the row does not have yet."""
        noted = self._noted.get(held.key)
        if noted is None:
            return None
        position, incarnation = noted
        same = position == held.lease.checkpoint
        return None if same and incarnation in (None, held.lease.incarnation) else noted

    async def _write(self, held: HeldLease, change: Callable[[Lease], Lease]) -> Lease | None:
        """Apply a transition and return the lease as written; None when it is gone."""
        while not self.fence(held):
            tried = self._attempt(held, change)
            verdict = self._judged(held, tried, await self._store.replace(tried.base, tried.new))
            if verdict is Verdict.WRITTEN:
                return tried.new
            if verdict is Verdict.LOST:
                break
        return None

    def _attempt(self, held: HeldLease, change: Callable[[Lease], Lease]) -> _Attempt:
        """Return the write to be sent now."""
        base, before = held.lease, tuple(held.unconfirmed)
        new = change(base)
        # Until its answer comes this write may have landed; the next answer is judged by that.
        # Sent once more unchanged, it counts from the first time: the answer cannot tell which of
        # them has landed, and others count from when they saw the counter move.
        sent = held.unconfirmed.setdefault(new, self._clock())
        return _Attempt(base, new, sent, before)

    def _judged(self, held: HeldLease, tried: _Attempt, row: Lease | None) -> Verdict:
        """Take in the answer to a write, and say what it means."""
        held.unconfirmed.clear()
        if held.gone:
            return Verdict.LOST
        verdict = judge(row, tried.new, tried.base, tried.before, self._me)
        if row is None or verdict is Verdict.LOST:
            self._lose(held, "deleted" if row is None else f"now of {row.processor}")
            return Verdict.LOST
        held.lease = row
        if verdict is Verdict.WRITTEN:
            self._written(held, tried.sent)
        elif verdict is Verdict.ASKED and not held.asked:
            held.asked = True
            log.info("%s: %s asks for %s", self._me, row.owner, row.key)
            self._listener.handover_requested(held.key)
        return verdict

    def _written(self, held: HeldLease, sent: float) -> None:
        lease = held.lease
        if lease.processor == self._me and not lease.is_finished:
            held.written_at = sent
            if self._roster is None:
                self._tally.count("renewals")
            return
        self._forget(held)
        if lease.is_finished:
            self._tally.count("finished")
            return
        self._tally.count("released")
        if lease.owner is not None:
            self._tally.count("handed_over")

    def _lose(self, held: HeldLease, why: str) -> None:
        self._forget(held)
        self._tally.count("lost")
        log.warning("%s: lost %s (epoch %d): %s", self._me, held.key, held.epoch, why)
        self._listener.lease_lost(held.key)

    def _forget(self, held: HeldLease) -> None:
        held.gone = True
        del self._held[held.key]
        self._noted.pop(held.key, None)


def _at(moved: tuple[Position, str | None], lease: Lease) -> Lease:
    return checkpointed(lease, *moved)
