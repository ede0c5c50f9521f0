"""A simulated group from its first worker to its last, and what must hold all along."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable
from random import Random

import msgspec

from streamproc.config import LeaseConfig, ReadConfig, StreamConfig
from streamproc.leases.assignment import startable
from streamproc.pipeline.routes import Routes
from streamproc.position import LATEST, TRIM_HORIZON
from streamproc.state.keys import Keys
from streamproc.testing.localkinesis.core import LocalKinesisCore
from streamproc.testing.localkinesis.stream import Stream
from streamproc.testing.memory_state import MemoryStateStore
from streamproc_checkpoints.memory import MemoryLeaseStore
from tests.simulation.kernel import Kernel
from tests.simulation.nemesis import Nemesis
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.plan import HARMLESS, Plan, Trouble, plan_of
from tests.simulation.worker import Tally, Worker

__all__ = ["Outcome", "World", "simulate"]

EPOCH = 1_700_000_000.0

LEASES = LeaseConfig(
    duration=10.0, scan_interval=2.0, checkpoint_interval=2.0, handover_timeout=30.0
)
READING = ReadConfig(
    poll_interval=2.0, idle_poll_interval=4.0, idle_after=8.0, min_interval=0.3, max_records=100
)

SLACK = 2.5
"""Seconds for calls on the way and between two looks, beyond the bounds that the settings give."""

QUIET = 15.0
"""Seconds without any change of owner that a fleet left alone must show."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to; equal for equal seeds."""

    trace: str
    commits: int
    events: int
    redelivered: int
    seconds: float


class _Defects(logging.Handler):
    """Takes an exception that a worker logs and survives for what it is."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._errors.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class World:
    """Servers, workers and time of one run."""

    stream_name = "stream"
    group = "group"
    lease_config = LEASES
    read_config = READING
    drain_timeout = 20.0

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kernel = Kernel(plan.seed)
        self.core = LocalKinesisCore(clock=self.wall_clock)
        self.core.call("CreateStream", StreamName=self.stream_name, ShardCount=plan.shards)
        self.table = MemoryLeaseStore()
        self.roster = MemoryLeaseStore() if plan.roster else None
        self.state = [
            MemoryStateStore(self.group, clock=self.wall_clock, partition=partition)
            for partition in range(plan.partitions)
        ]
        self.initial = LATEST if plan.latest else TRIM_HORIZON
        self.stream_config = StreamConfig(name=self.stream_name, shard_sync_interval=7.0)
        self._trace = hashlib.blake2b(digest_size=8)
        self.narrate: Callable[[str], object] = lambda _: None
        self.oracle = Oracle(lambda: self.stream, _digest_prefix(), plan.partitions, self.trace)
        self.workers: list[Worker] = []
        self._hired = 0
        self._rng = Random(self.kernel.rng.random())
        self._numbers: dict[str, int] = {}
        self._calm_since = 0.0
        self._trouble_until = 0.0
        self._held_at: dict[str, float] = {}
        self._producing = True

    @property
    def stream(self) -> Stream:
        """The true stream."""
        return self.core.account.streams[self.stream_name]

    def wall_clock(self) -> float:
        """Return seconds since the epoch; one clock for all, as NTP keeps them within ms."""
        return EPOCH + self.kernel.now

    def trace(self, line: str) -> None:
        """Add to the digest that two runs of a seed must agree on."""
        self._trace.update(f"{self.kernel.now!r} {line}\n".encode())
        self.narrate(f"{self.kernel.now:8.3f} {line}")

    # What may happen to the fleet.

    def start(self, name: str | None = None) -> Worker:
        """Start a worker, under a new name unless one is given."""
        if name is None:
            name = f"w{self._hired}"
            self._hired += 1
        rate = self._rng.uniform(0.9, 1.1) if Trouble.SKEW in self.plan.troubles else 1.0
        worker = Worker(self, name, rate)
        self.workers.append(worker)
        self.disturb()
        self.trace(f"start {name}")
        return worker

    def stop(self, worker: Worker) -> None:
        """Ask a worker to stop."""
        self.trace(f"stop {worker.name}")
        self.disturb(self.drain_timeout)
        worker.stop()

    def crash(self, worker: Worker) -> None:
        """Kill a worker."""
        self.trace(f"crash {worker.name}")
        worker.host.crash()
        self.disturb()

    def pause(self, worker: Worker, seconds: float) -> None:
        """Stop a worker's process for a while."""
        self.trace(f"pause {worker.name} {seconds}")
        worker.host.pause()
        self.disturb()
        self.troubled(seconds)

        def resume() -> None:
            if worker.host.alive:
                worker.host.resume()
                self.disturb()

        self.kernel.after(seconds, resume)

    def reshard(self, rng: Random) -> None:
        """Split a shard or merge two."""
        shards = self.stream.open_shards
        self.trace("reshard")
        if len(shards) > 2 and (rng.random() < 0.5 or len(shards) >= 64):
            at = rng.randrange(len(shards) - 1)
            self.core.call(
                "MergeShards",
                StreamName=self.stream_name,
                ShardToMerge=shards[at].id,
                AdjacentShardToMerge=shards[at + 1].id,
            )
        else:
            shard = rng.choice(shards)
            middle = (shard.start_hash + shard.end_hash) // 2
            self.core.call(
                "SplitShard",
                StreamName=self.stream_name,
                ShardToSplit=shard.id,
                NewStartingHashKey=str(middle),
            )

    def disturb(self, seconds: float = 0.0) -> None:
        """Note that the fleet cannot be expected to be in order before that many seconds."""
        self._calm_since = max(self._calm_since, self.kernel.now + seconds)

    def troubled(self, seconds: float) -> None:
        """Note that what the nemesis began will go on for that long."""
        self._trouble_until = max(self._trouble_until, self.kernel.now + seconds)

    # A run.

    def run(self) -> Outcome:
        """Live through the plan.

        Raises:
            Violation: something happened that must not.
        """
        log = logging.getLogger("streamproc")
        log.addHandler(defects := _Defects(self.kernel.errors))
        try:
            return self._run()
        finally:
            log.removeHandler(defects)
            self._bury()

    def _bury(self) -> None:
        """End all that is left, out of reach of every server."""
        self.kernel.forget_timers()
        for worker in self.workers:
            for link in worker.links:
                link.silent = 1.0
            worker.host.bury()

    def _run(self) -> Outcome:
        for _ in range(self.plan.workers):
            self.start()
        if self.plan.latest:
            self._wait(lambda: len(self._rows()) == self.plan.shards, 20.0, "all first leases")
        self._produce()
        self._look()
        self._step(self._rng.uniform(0.0, 10.0))
        Nemesis(self)
        self._step(self.plan.chaos)
        self._step(max(self._trouble_until, self._calm_since) - self.kernel.now + 1.0)
        self._producing = False
        self._settle()
        self._rest()
        self._stop_all()
        return Outcome(
            trace=self._trace.hexdigest(),
            commits=self.oracle.commits,
            events=len(self.oracle.deliveries),
            redelivered=len(self.oracle.delivered_again()),
            seconds=self.kernel.now,
        )

    def _settle(self) -> None:
        """Wait until all is read and the leases are spread evenly."""
        bound = 2 * LEASES.duration + LEASES.handover_timeout + 10 * LEASES.scan_interval
        bound += len(self._rows()) * LEASES.scan_interval
        self._wait(lambda: not self.oracle.unread(), bound + 60.0, "all events committed")
        self._wait(self._is_settled, bound, "an even spread")
        again = self.oracle.delivered_again()
        if again and self.plan.troubles <= HARMLESS:
            raise Violation(f"delivered more than once without a fault: {again}")

    def _rest(self) -> None:
        """Check that a fleet left alone stays as it is."""
        before = sum(worker.acquisitions() for worker in self.workers)
        self._step(QUIET)
        moved = sum(worker.acquisitions() for worker in self.workers) - before
        if moved or not self._is_settled():
            raise Violation(f"{moved} leases changed hands in a quiet fleet: {self._loads()}")

    def _stop_all(self) -> None:
        """Stop everybody, and check that nothing is left owned."""
        for worker in self.workers:
            if worker.host.alive and not worker.stopped:
                self.stop(worker)
        self._wait(
            lambda: all(w.stopped or not w.host.alive for w in self.workers), 30.0, "a clean stop"
        )
        owned = [row.key for row in self._rows().values() if row.owner and not row.is_finished]
        if owned:
            raise Violation(f"all workers stopped, but {owned} are owned")

    def _step(self, seconds: float) -> None:
        end = self.kernel.now + max(0.0, seconds)
        while self.kernel.now < end:
            self.kernel.run_until(min(end, self.kernel.now + 0.5))
            if self.kernel.errors:
                raise Violation("; ".join(self.kernel.errors))

    def _wait(self, condition, limit: float, what: str) -> None:  # type: ignore[no-untyped-def]
        end = self.kernel.now + limit
        while not condition():
            if self.kernel.now >= end:
                raise Violation(f"no {what} within {limit:g} s: {self._loads()}")
            self._step(0.5)

    # Producing and looking.

    def _produce(self) -> None:
        if not self._producing:
            return
        rng = self._rng
        entries = []
        for _ in range(rng.randint(1, 4)):
            account = f"a{rng.randrange(3 * self.plan.shards)}"
            number = self._numbers[account] = self._numbers.get(account, 0) + 1
            entries.append((account, number))
            if rng.random() < 0.05:
                entries.append((account, number))  # A producer's retry, under another number.
        answer = self.core.call(
            "PutRecords",
            StreamName=self.stream_name,
            Records=[
                {"PartitionKey": account, "Data": base64.b64encode(_tick(account, number)).decode()}
                for account, number in entries
            ],
        )
        for (account, number), result in zip(entries, answer["Records"], strict=True):
            self.oracle.put(
                result["ShardId"], result["SequenceNumber"], f"{account}-{number}", account, number
            )
        self.kernel.after(rng.expovariate(1.5), self._produce)

    def _look(self) -> None:
        """Check that every lease that can be processed is held again within the bound."""
        rows, now = self._rows(), self.kernel.now
        slowest = 0.9 if Trouble.SKEW in self.plan.troubles else 1.0
        bound = (LEASES.duration + LEASES.scan_interval) / slowest + SLACK
        up = [worker for worker in self.workers if worker.is_up]
        if not up:
            self.disturb()
        calm_since = min(now, self._calm_since)
        for key, row in rows.items():
            held = any(worker.holds(key) for worker in up)
            if row.is_finished or not startable(row, rows) or held:
                self._held_at[key] = now
            elif now - max(self._held_at.setdefault(key, now), calm_since) > bound:
                since = now - self._held_at[key]
                raise Violation(f"{key} is held by nobody for {since:.1f} s: {row}")
        if any(worker.host.alive for worker in self.workers):
            self.kernel.after(1.0, self._look)

    def _rows(self):  # type: ignore[no-untyped-def]
        return self.table._rows

    def _loads(self) -> dict[str, int]:
        return {worker.name: worker.load() for worker in self.workers if worker.is_up}

    def _is_settled(self) -> bool:
        """Whether what is closed is finished, and the rest held, evenly, and asked for by none."""
        rows, stream = self._rows(), self.stream
        active = [row for row in rows.values() if not row.is_finished]
        up = [worker for worker in self.workers if worker.is_up]
        if not all(
            row.checkpoint_owner is None
            and stream.shards[row.key].is_open
            and any(worker.holds(row.key) for worker in up)
            for row in active
        ):
            return False
        loads = self._loads().values()
        return sum(loads) == len(active) and max(loads) - min(loads) <= 1


def _digest_prefix() -> bytes:
    routes = Routes([Tally(lambda _: None, 0.0)], [Keys("group")])
    reading = routes.registry.reading("Tick")
    assert reading is not None
    return reading.id_prefix


def _tick(account: str, number: int) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "type": "Tick",
            "id": f"{account}-{number}",
            "source": "simulation",
            "time": "2026-01-01T00:00:00Z",
            "data": {"tick_id": f"{account}-{number}", "account": account, "number": number},
        }
    )


def simulate(seed: int) -> Outcome:
    """Run a seed.

    Raises:
        Violation: something happened that must not.
    """
    return World(plan_of(seed)).run()
