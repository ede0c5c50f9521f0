"""A run in which worker processes are killed at random instants, and what must hold after it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import redis.asyncio

from streamproc.position import Position
from streamproc.testing import LocalKinesis
from tests.campaigns.processes import ForkedWorker
from tests.campaigns.workload import DUPLICATES, make_workload
from tests.stored import Counts, StoredGroup

__all__ = ["CrashPlan", "CrashRun", "RunFailed", "RunResult"]

_RUN_S: Final = 90.0
_AHEAD: Final = 500  # distinct records published and not yet booked, at least
_SLICE: Final = 200  # records of one PutRecords
_HANDOVER_EVERY: Final = 10  # seeds

Act: TypeAlias = Callable[[StoredGroup], Awaitable[None]]


class RunFailed(AssertionError):
    """A promise was broken in a run; the message says which and how."""


class CrashPlan(msgspec.Struct, frozen=True):
    """What is done to a run, by its seed.

    Attributes:
        seed: makes the workload and everything here.
        deliveries: records published.
        shards: of the stream.
        partitions: of the group.
        workers: processes at a time.
        kills: instants of SIGKILL: share of the effects done by then, and further seconds.
        handovers: instants at which a worker joins and another is asked to leave.
        batch: most records in a batch.
        fetch: most records in an answer of Kinesis.
    """

    seed: int
    deliveries: int
    shards: int
    partitions: int
    workers: int
    kills: Sequence[tuple[float, float]]
    handovers: Sequence[float]
    batch: int
    fetch: int

    @classmethod
    def make(cls, seed: int, deliveries: int) -> CrashPlan:
        """Return the plan of a seed: one kill or two, and a hand-over in every tenth."""
        rng = random.Random(seed)
        kills = [(rng.random() * 0.95, rng.random() * 0.03) for _ in range(rng.choice((1, 1, 2)))]
        return cls(
            seed=seed,
            deliveries=deliveries,
            shards=rng.choice((2, 3, 4)),
            partitions=rng.choice((1, 1, 3)),
            workers=rng.choice((2, 2, 3)),
            kills=sorted(kills),
            handovers=[rng.random() * 0.9] if seed % _HANDOVER_EVERY == 0 else [],
            batch=rng.choice((20, 50, 100, 250, 1000)),
            fetch=rng.choice((100, 500, 10_000)),
        )


class RunResult(msgspec.Struct, frozen=True):
    """What a run that held came to; `samples` are the instants at which it was looked at."""

    deliveries: int
    distinct: int
    kills: int
    handovers: int
    samples: int
    seconds: float


class CrashRun:
    """One run against servers that hold nothing else.

    Args:
        plan: what happens.
        kinesis: an endpoint without a stream of this run's name.
        redis_url: an empty database.
        directory: for logs and sockets.
    """

    def __init__(
        self, plan: CrashPlan, kinesis: LocalKinesis, redis_url: str, directory: Path
    ) -> None:
        self._plan = plan
        self._kinesis = kinesis
        self._redis_url = redis_url
        self._directory = directory
        self._stream = f"crash-{plan.seed}"
        self._rng = random.Random(f"victims of {plan.seed}")
        self._workers: list[ForkedWorker] = []
        self._started = 0
        self._workload = make_workload(random.Random(plan.seed), plan.deliveries)
        self._published = 0
        self._ends: dict[str, Position] = {}
        self._samples = 0
        self._kills = 0

    async def run(self) -> RunResult:
        """Carry the run out.

        Raises:
            RunFailed: it broke a promise, or did not get done in time.
        """
        began = time.monotonic()
        plan = self._plan
        self._kinesis.core.call("CreateStream", StreamName=self._stream, ShardCount=plan.shards)
        client = redis.asyncio.Redis.from_url(self._redis_url)
        stored = StoredGroup(client)
        try:
            async with asyncio.timeout(_RUN_S):
                for _ in range(plan.workers):
                    await self._start()
                await self._until_shared(stored)
                await self._torment(stored)
                await self._until_done(stored)
                await self._end_cleanly(stored)
            await self._verify(stored)
        except TimeoutError:
            raise RunFailed(
                f"not done after {_RUN_S:.0f} s: {await stored.counts()} at "
                f"{await stored.positions()}, of {self._workload.distinct} at {self._ends}"
            ) from None
        finally:
            for worker in self._workers:
                await worker.end(signal.SIGKILL)
            await client.aclose()
        return RunResult(
            plan.deliveries,
            self._workload.distinct,
            self._kills,
            len(plan.handovers),
            self._samples,
            time.monotonic() - began,
        )

    def _publish_ahead(self, effects: int) -> None:
        """Keep some records ahead of the workers, so that a kill finds them at work."""
        deliveries, put = self._workload.deliveries, self._published
        while put < len(deliveries) and put * (1 - DUPLICATES) < effects + _AHEAD:
            entries = [
                {"PartitionKey": key, "Data": base64.b64encode(data).decode()}
                for key, data in deliveries[put : put + _SLICE]
            ]
            answer = self._kinesis.core.call("PutRecords", StreamName=self._stream, Records=entries)
            for record in answer["Records"]:
                shard = f"{self._stream}/{record['ShardId']}"
                self._ends[shard] = Position(record["SequenceNumber"])
            put += len(entries)
        self._published = put

    def _socket(self, worker: str) -> Path:
        return self._directory / f"{self._plan.seed}-{worker}.sock"

    async def _start(self) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        settings: dict[str, Any] = {
            "group": "crash",
            "stream.name": self._stream,
            "stream.region": "us-east-1",
            "stream.endpoint_url": self._kinesis.endpoint_url,
            "stream.shard_sync_interval": 0.3,
            "redis.url": self._redis_url,
            "redis.partitions": self._plan.partitions,
            "leases.duration": 1.0,
            "leases.scan_interval": 0.1,
            "leases.checkpoint_interval": 0.1,
            "read.min_interval": 0.01,
            "read.poll_interval": 0.02,
            "read.max_records": self._plan.fetch,
            "batch.records": self._plan.batch,
            "http.socket": str(self._socket(name)),
            "worker.id": name,
            "worker.drain_timeout": 10.0,
        }
        worker = ForkedWorker(settings, self._directory / f"{self._stream}-{name}.log")
        await worker.start()
        self._workers.append(worker)

    async def _until_shared(self, stored: StoredGroup) -> None:
        """Wait until every worker that can have a shard has one: a kill must hurt."""
        while len(await stored.lease_owners()) < min(self._plan.workers, self._plan.shards):
            await self._look(stored)
            await asyncio.sleep(0.02)

    async def _torment(self, stored: StoredGroup) -> None:
        """Kill, and have shards handed over, at the plan's instants, looking all the time."""
        for share, further, act in self._instants():
            await self._until(stored, share * self._workload.distinct)
            # Into the middle of whatever the workers do then.
            await asyncio.sleep(further)
            await act(stored)

    def _instants(self) -> Iterator[tuple[float, float, Act]]:
        instants = [(share, further, self._kill) for share, further in self._plan.kills]
        instants += [(share, 0.0, self._hand_over) for share in self._plan.handovers]
        yield from sorted(instants, key=lambda instant: instant[0])

    async def _kill(self, stored: StoredGroup) -> None:
        owners = await stored.lease_owners()
        holding = [worker for worker in self._workers if worker.name in owners]
        victim = self._rng.choice(holding or self._workers)
        self._workers.remove(victim)
        code = await victim.end(signal.SIGKILL)
        if code != -signal.SIGKILL:
            raise RunFailed(f"a worker had ended by itself, with exit code {code}")
        self._kills += 1
        await self._start()

    async def _hand_over(self, stored: StoredGroup) -> None:
        """Have a new worker ask for its share, then one of the old give all of its own back."""
        await self._start()
        await self._until_listening(stored, self._workers[:1])
        leaving = self._workers.pop(0)
        code = await leaving.end(signal.SIGTERM)
        if code != 0:
            raise RunFailed(f"a worker that was told to stop exited with {code}")

    async def _until_listening(self, stored: StoredGroup, workers: Sequence[ForkedWorker]) -> None:
        """Wait until workers that may be young listen to signals."""
        while not all(self._socket(worker.name).exists() for worker in workers):
            await self._look(stored)
            await asyncio.sleep(0.02)

    async def _until_done(self, stored: StoredGroup) -> None:
        await self._until(stored, self._workload.distinct)
        while not self._is_at_the_end(await stored.positions()):
            await self._look(stored)
            await asyncio.sleep(0.02)

    def _is_at_the_end(self, positions: dict[str, dict[int, Position]]) -> bool:
        return positions == {
            shard: dict.fromkeys(range(self._plan.partitions), end)
            for shard, end in self._ends.items()
        }

    async def _until(self, stored: StoredGroup, effects: float) -> None:
        while True:
            if await self._look(stored) >= effects:
                return
            await asyncio.sleep(0.002)

    async def _look(self, stored: StoredGroup) -> int:
        """Return the effects so far; at no instant may they differ from the marks."""
        dead = [worker.exit_code for worker in self._workers if worker.exit_code is not None]
        if dead:
            raise RunFailed(f"workers ended by themselves, with {dead}; see {self._directory}")
        counts = await stored.counts()
        self._samples += 1
        self._publish_ahead(counts.effects)
        if counts.marks != counts.effects:
            raise RunFailed(f"at one instant: {counts}")
        return counts.effects

    async def _end_cleanly(self, stored: StoredGroup) -> None:
        """End the workers as an operator does."""
        await self._until_listening(stored, self._workers)
        codes = [await worker.end(signal.SIGTERM) for worker in self._workers]
        if any(codes):
            raise RunFailed(f"the last workers exited with {codes}")

    async def _verify(self, stored: StoredGroup) -> None:
        workload = self._workload
        booked = await stored.accounts()
        if booked != {account: list(range(n)) for account, n in workload.booked.items() if n}:
            raise RunFailed(f"booked {booked}\nof {workload.booked}")
        emitted = await stored.emitted()
        balance = Counter(entry_id for _, entry_id in emitted)
        balance.subtract(workload.entry_ids())
        wrong = {entry_id: count for entry_id, count in balance.items() if count}
        if wrong:
            raise RunFailed(f"emitted too often (or, negative, too seldom): {wrong}")
        if len({emission_id for emission_id, _ in emitted}) != workload.distinct:
            raise RunFailed("two events were emitted under one id")
        counts = await stored.counts()
        if counts != Counts(marks=workload.distinct, effects=workload.distinct):
            raise RunFailed(f"{counts}, but {workload.distinct} distinct ids")


@contextlib.contextmanager
def replayable(plan: CrashPlan) -> Iterator[None]:
    """Say in a failure which command repeats the run."""
    try:
        yield
    except RunFailed as failed:
        raise RunFailed(
            f"{failed}\nrepeat it with: python -m tests.campaigns --runs 1 "
            f"--seed {plan.seed} --deliveries {plan.deliveries}"
        ) from failed
