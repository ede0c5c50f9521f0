"""The run itself: open the shop, publish, split a shard, kill a worker, wait, verify."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from streamproc.kinesis.client import KinesisClient
from streamproc.observability.status import WorkerStatus
from streamproc.pipeline.statistics import Histogram
from streamproc.position import Position
from streamproc_benchmarks.demo.board import fetch_status, totals
from streamproc_benchmarks.demo.fleet import DemoError, Fleet, child_environment, within
from streamproc_benchmarks.demo.monitor import Member, Monitor
from streamproc_benchmarks.demo.observe import GroupReader
from streamproc_benchmarks.demo.oracle import Expected, expect
from streamproc_benchmarks.demo.publisher import Publisher
from streamproc_benchmarks.demo.report import Report
from streamproc_benchmarks.demo.servers import Endpoints, kinesis_admin
from streamproc_benchmarks.demo.settings import STREAM, Options, worker_arguments, write_config
from streamproc_benchmarks.demo.verify import Check, Tally, check_counters, flagged_payments, verify
from streamproc_benchmarks.demo.view import shard_name
from streamproc_benchmarks.demo.workload import Record, Workload

__all__ = ["Play"]

_WORKERS: Final = ("worker-1", "worker-2")
_READY_S: Final = 30.0
_SETTLE_S: Final = 20.0
_DRAIN_S: Final = 25.0  # the workers' own `drain_timeout`
_SPLIT_AT: Final = 0.25
_KILL_AT: Final = 0.5
_WATCH_EVERY_S: Final = 0.05
_OPENING_RATE: Final = 2_000.0


class _Killed(msgspec.Struct, frozen=True):
    """A killed worker: its last status, and how far Redis says its shards had got."""

    name: str
    last: WorkerStatus
    committed: dict[str, Position]
    take_over_s: float
    lag_before: Histogram


class Play:
    """One run from the first worker to the report.

    Args:
        options: what the command line says.
        fleet: starts the workers.
        endpoints: the servers.
        kinesis: a client of the stream.
        group: reads the consumer group's keys.
        monitor: watches; its `run` must go on beside this.
        publisher: puts the records.
        directory: for the workers' configuration and sockets.
        workload: what to publish.
    """

    def __init__(
        self,
        options: Options,
        fleet: Fleet,
        endpoints: Endpoints,
        kinesis: KinesisClient,
        group: GroupReader,
        monitor: Monitor,
        publisher: Publisher,
        directory: Path,
        workload: Workload,
    ) -> None:
        self._options = options
        self._fleet = fleet
        self._endpoints = endpoints
        self._kinesis = kinesis
        self._group = group
        self._monitor = monitor
        self._publisher = publisher
        self._directory = directory
        self._workload = workload

    async def run(self) -> Report:
        """Perform, verify and report.

        Raises:
            DemoError: it could not be carried through.
        """
        await self._start_workers()
        opening = await self._open_shop()
        publish_s, split, killed = await self._business_day()
        self._monitor.stage = "waiting for the last commits"
        await self._monitor.until_committed()
        self._monitor.stage = "verifying"
        history = self._publisher.history[len(opening) :]
        # In a thread, so that the screen stays alive.
        expected = await asyncio.to_thread(expect, opening, history, self._workload.books)
        counters = await self._check_counters(killed, expected)
        lag_all = self._monitor.board.end_to_end()
        stopped, stop_s = await self._stop_last_worker()
        observed = await self._group.observe()
        checks = verify(expected, observed)
        self._monitor.stage = "verified"
        self._monitor.draw()
        return Report(
            counts=expected.counts,
            opening=len(opening),
            publish_s=publish_s,
            offered_rate=self._options.rate,
            split=split,
            killed=killed.name,
            taken_over=len(killed.committed),
            take_over_s=killed.take_over_s,
            lag_before=killed.lag_before,
            lag_all=lag_all,
            stop_s=stop_s,
            flagged=flagged_payments(observed),
            frauds=self._workload.frauds,
            checks=[*checks, counters, stopped],
        )

    # The opening.

    async def _start_workers(self) -> None:
        monitor = self._monitor
        monitor.stage = "starting two workers"
        config = self._directory / "streamproc.toml"
        write_config(config, self._endpoints.kinesis, self._endpoints.redis)
        for name in _WORKERS:
            socket = self._directory / f"{name}.sock"
            arguments = worker_arguments(config, name, socket)
            process = await self._fleet.start(name, arguments, child_environment())
            monitor.members.append(Member(process, socket))
        pids = " and ".join(str(member.process.pid) for member in monitor.members)
        monitor.say(f"two workers start, pid {pids}; state and leases in {self._endpoints.redis}")
        await monitor.until(monitor.is_settled, "both workers to share the shards", _READY_S)
        monitor.say(f"they share {len(monitor.board.owners())} shards")

    async def _open_shop(self) -> list[Record]:
        """Fill the shelves, and let that be committed before the first order."""
        self._monitor.stage = "filling the shelves"
        opening = self._workload.opening()
        self._monitor.size = len(opening) + self._workload.size
        await self._publisher.publish(opening, _OPENING_RATE)
        await self._monitor.until_committed()
        self._monitor.say(f"{len(self._workload.books)} stocks are filled; the shop opens")
        return opening

    # The day.

    async def _business_day(self) -> tuple[float, str, _Killed]:
        """Publish; meanwhile split a shard and kill a worker."""
        self._monitor.stage = f"{self._options.rate:,.0f} events/s"
        started = time.monotonic()
        directing = asyncio.create_task(self._direct(started))
        try:
            await self._publisher.publish(self._workload.records(), self._options.rate)
            publish_s = time.monotonic() - started
            self._monitor.say("everything is published")
            split, killed = await directing
        finally:
            directing.cancel()
            await asyncio.wait([directing])
        return publish_s, split, killed

    async def _direct(self, started: float) -> tuple[str, _Killed]:
        duration = self._options.duration
        await _sleep_until(started + duration * _SPLIT_AT)
        split = await self._split_busiest()
        await _sleep_until(started + duration * _KILL_AT)
        return split, await self._kill_busiest()

    async def _split_busiest(self) -> str:
        """Split the open shard with the most records; return what was done, once it is done."""
        logs = self._publisher.shards
        shards = [s for s in await self._kinesis.list_shards() if not s.ending_sequence_number]
        shard = max(shards, key=lambda s: len(logs[s.shard_id].sequences))
        middle = (int(shard.starting_hash_key) + int(shard.ending_hash_key) + 1) // 2
        async with kinesis_admin(self._endpoints.kinesis) as admin:
            await admin.split_shard(
                StreamName=STREAM,
                ShardToSplit=shard.shard_id,
                NewStartingHashKey=str(middle),
            )
        children = {
            s.shard_id for s in await self._kinesis.list_shards() if shard.shard_id in s.parents
        }
        if len(children) != 2:
            raise DemoError(f"{shard_name(shard.shard_id)} was split, but has {children}")
        names = " and ".join(shard_name(child) for child in sorted(children))
        self._monitor.say(f"{shard_name(shard.shard_id)} is split into {names}")
        asked = time.monotonic()
        await self._monitor.until(
            lambda: children <= self._monitor.positions.keys(),
            "the children of the split shard to be taken",
            _SETTLE_S,
        )
        took = time.monotonic() - asked
        self._monitor.say(f"{shard_name(shard.shard_id)} is read to its end; {names} go on")
        split = f"{shard_name(shard.shard_id)} into {names}"
        return f"{split}, before the kill; taken up {took:.1f} s later"

    async def _kill_busiest(self) -> _Killed:
        """Kill the worker with the most shards, and time how long they are without an owner."""
        monitor = self._monitor
        await monitor.until(monitor.is_settled, "the leases to settle before the kill", _SETTLE_S)
        victim = max(monitor.members, key=lambda m: len(monitor.board.workers[m.name].shards))
        last = await fetch_status(victim.socket)
        if last is None:
            raise DemoError(f"{victim.name} does not answer; {victim.process.tail()}")
        monitor.board.take(victim.name, last, time.monotonic())
        lag_before = monitor.board.end_to_end()
        monitor.board.dead.add(victim.name)
        await victim.process.end(signal.SIGKILL)
        died = time.monotonic()
        held = ", ".join(shard_name(shard.shard_id) for shard in last.shards)
        monitor.say(f"KILLED {victim.name} (SIGKILL, pid {victim.process.pid}) with {held}")
        # Nobody commits on its shards until its leases expire: what Redis has now is its last word.
        epochs = {shard.shard_id: shard.epoch for shard in last.shards}
        at_death = await self._group.positions()
        await within(_SETTLE_S, "the take-over", self._until_adopted(epochs))
        take_over_s = time.monotonic() - died
        monitor.say(f"take-over: all of them have a new owner, {take_over_s:.1f} s later")
        committed = {shard: at_death[shard][1] for shard in epochs}
        return _Killed(victim.name, last, committed, take_over_s, lag_before)

    async def _until_adopted(self, epochs: dict[str, int]) -> None:
        """Return once every shard has an owner of a later epoch."""
        while True:
            positions = await self._group.positions()
            if all(positions[shard][0] > epoch for shard, epoch in epochs.items()):
                return
            await asyncio.sleep(_WATCH_EVERY_S)

    # The end.

    async def _check_counters(self, killed: _Killed, expected: Expected) -> Check:
        """Add up what the workers counted.

        A worker counts a commit once it has heard of it, so its counters may be a moment behind
        Redis; they get a few looks to settle.
        """
        unreported: Counter[str] = Counter()
        for shard in killed.last.shards:
            log = self._publisher.shards[shard.shard_id]
            before = _sequence(Position.decode(shard.position))
            unreported += log.between(before, _sequence(killed.committed[shard.shard_id]))
        check = None
        for _ in range(10):
            tallies = [
                _tally(name, status, unreported if name == killed.name else Counter())
                for name, status in sorted(self._monitor.board.workers.items())
            ]
            check = check_counters(expected.counts, tallies)
            if check.holds:
                break
            await self._monitor.next_look()
        assert check is not None, "there is at least one look"
        return check

    async def _stop_last_worker(self) -> tuple[Check, float]:
        """Stop the surviving worker with SIGTERM; it must drain, release and exit with 0."""
        monitor = self._monitor
        (survivor,) = [m for m in monitor.members if m.name not in monitor.board.dead]
        monitor.freeze()  # the last picture is the one with all its shards
        asked = time.monotonic()
        code = await within(
            _DRAIN_S, f"draining {survivor.name}", survivor.process.end(signal.SIGTERM)
        )
        took = time.monotonic() - asked
        differences = []
        if code != 0:
            differences = [f"{survivor.name} exited with {code}; {survivor.process.tail()}"]
        detail = f"SIGTERM to exit {code} in {took:.1f} s"
        return Check(f"{survivor.name} stops cleanly", detail, differences), took


def _tally(name: str, status: WorkerStatus, unreported: Counter[str]) -> Tally:
    total = totals(status)
    counted = Counter(event=total.processed, duplicate=total.duplicates, poison=total.dead_letters)
    return Tally(worker=name, records=total.records, counted=counted, unreported=unreported)


def _sequence(position: Position) -> int:
    return -1 if position.is_start else int(position.sequence)


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
