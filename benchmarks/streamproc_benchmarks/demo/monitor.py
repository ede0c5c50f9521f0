"""Watches a run: asks the workers and Redis several times a second, and draws what they say."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from streamproc.position import Position
from streamproc_benchmarks.demo.board import Board, fetch_status
from streamproc_benchmarks.demo.fleet import DemoError, Process
from streamproc_benchmarks.demo.observe import GroupReader
from streamproc_benchmarks.demo.publisher import Publisher, ShardLog
from streamproc_benchmarks.demo.view import Screen, View, WorkerRow, shard_name

__all__ = ["Alerts", "Member", "Monitor", "behind"]

_LOOK_EVERY_S: Final = 0.25
_STALL_S: Final = 20.0


class Member(msgspec.Struct, frozen=True):
    """A worker of the run: its process and where it answers."""

    process: Process
    socket: Path

    @property
    def name(self) -> str:
        """What it is called everywhere."""
        return self.process.name


class Alerts:
    """What lies in the outbox, followed from entry to entry."""

    def __init__(self) -> None:
        self.flagged = 0
        self.reasons: Counter[str] = Counter()
        self.oversold_alerts = 0
        self.oversold: set[tuple[str, str]] = set()
        self._last = "-"

    async def follow(self, group: GroupReader) -> None:
        """Take in what is new."""
        for at, entry in await group.outbox(self._last):
            self._last = at
            if entry.type == "PaymentFlagged":
                self.flagged += 1
                self.reasons.update(entry.data["reasons"])
            elif entry.type == "Oversold":
                self.oversold_alerts += 1
                self.oversold.add((entry.data["sku"], entry.data["locationId"]))


class Monitor:
    """The state of a run as last seen, and ways to wait for it to change.

    Attributes:
        stage: what the screen says is going on.
        board: the workers' reports.
        positions: epoch and committed position of each shard, as Redis has them.
        size: records that will be published; 0 until that is known.
    """

    def __init__(
        self, group: GroupReader, publisher: Publisher, screen: Screen, started: float
    ) -> None:
        self.stage = "starting"
        self.board = Board()
        self.positions: dict[str, tuple[int, Position]] = {}
        self.members: list[Member] = []
        self.size = 0
        self._group = group
        self._publisher = publisher
        self._screen = screen
        self._started = started
        self._alerts = Alerts()
        self._looked = asyncio.Event()
        self._is_frozen = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Tell what happened."""
        self._screen.say(self.elapsed_s, text)

    async def run(self) -> None:
        """Look and draw until cancelled."""
        while not self._is_frozen:
            await self.look()
            self.draw()
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.get_running_loop().create_future()

    def freeze(self) -> None:
        """Look no more; what was seen last stays."""
        self._is_frozen = True

    def draw(self) -> None:
        """Draw what was seen last."""
        self._screen.show(self._view())

    async def look(self) -> None:
        """Ask every living worker and Redis."""
        living = [m for m in self.members if m.name not in self.board.dead]
        for member, status in zip(
            living, await asyncio.gather(*[fetch_status(m.socket) for m in living]), strict=True
        ):
            # Killed while it answered, it has said its last word already.
            if status is not None and member.name not in self.board.dead:
                self.board.take(member.name, status, time.monotonic())
        self.positions = await self._group.positions()
        await self._alerts.follow(self._group)

    async def next_look(self) -> None:
        """Return after the next look."""
        await self._looked.wait()

    async def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Return once a look finds `condition`.

        Raises:
            DemoError: it does not come true within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self.next_look()
        except TimeoutError:
            raise DemoError(f"waited {seconds:.0f} s for {what}; {self._tails()}") from None

    async def until_committed(self) -> None:
        """Return once everything published is committed.

        Raises:
            DemoError: nothing moved for twenty seconds.
        """
        left, since = self.uncommitted(), time.monotonic()
        while left:
            await self.next_look()
            now_left = self.uncommitted()
            if now_left != left:
                left, since = now_left, time.monotonic()
            elif time.monotonic() - since > _STALL_S:
                shards = ", ".join(f"{shard_name(s)}: {n}" for s, n in self._behind().items() if n)
                raise DemoError(
                    f"{left:,} records are not committed ({shards}), and nothing has moved for "
                    f"{_STALL_S:.0f} s; {self._tails()}"
                )

    def uncommitted(self) -> int:
        """Return how many published records are not committed, as of the last look."""
        return sum(self._behind().values())

    def is_settled(self) -> bool:
        """Whether every living worker works on shards, and no lease is on its way."""
        living = [m.name for m in self.members if m.name not in self.board.dead]
        reports = [self.board.workers.get(name) for name in living]
        if not all(
            report is not None
            and report.ready
            and report.shards
            and all(shard.phase == "processing" for shard in report.shards)
            and all(lease.handing_over_from is None for lease in report.leases)
            for report in reports
        ):
            return False
        open_leases = {
            lease.shard_id
            for report in reports
            if report is not None
            for lease in report.leases
            if lease.checkpoint != "SHARD_END"
        }
        return open_leases == self.board.owners().keys()

    def _view(self) -> View:
        return View(
            stage=self.stage,
            elapsed_s=self.elapsed_s,
            published=self._publisher.published,
            size=self.size,
            committed=self._publisher.published - self.uncommitted(),
            workers=[self._worker_row(member) for member in self.members],
            shards=self.board.rows(time.monotonic()),
            behind=self._behind(),
            flagged=self._alerts.flagged,
            reasons=self._alerts.reasons,
            oversold_alerts=self._alerts.oversold_alerts,
            oversold=len(self._alerts.oversold),
        )

    def _behind(self) -> dict[str, int]:
        return {
            shard: behind(log, self.positions[shard][1] if shard in self.positions else None)
            for shard, log in self._publisher.shards.items()
        }

    def _worker_row(self, member: Member) -> WorkerRow:
        if member.name in self.board.dead:
            return WorkerRow(member.name, member.process.pid, "killed", True)
        if not member.process.is_running:
            return WorkerRow(member.name, member.process.pid, "stopped", False)
        status = self.board.workers.get(member.name)
        state = "starting" if status is None else status.state
        return WorkerRow(member.name, member.process.pid, state, False)

    def _tails(self) -> str:
        return "\n".join(f"{m.name}: {m.process.tail()}" for m in self.members)


def behind(log: ShardLog, position: Position | None) -> int:
    """Return how many of a shard's records lie after a position; all of them without one."""
    if position is None or position.is_start:
        return len(log.sequences)
    if position.is_end:
        return 0
    return len(log.sequences) - bisect_right(log.sequences, int(position.sequence))
