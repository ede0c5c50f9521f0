"""Teams of one and more workers, each with a stream of its own, that work in turns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.load import LoadSpec, Published
from streamproc_benchmarks.processes import Child, ChildFailed, start_child
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.scaling import ProcessorName, Scaling, ScalingPlan, ScalingRound
from streamproc_benchmarks.scaling_turns import evaluated
from streamproc_benchmarks.scaling_worker import (
    Account,
    Begin,
    Finish,
    Holding,
    ScalingWorkerSpec,
    Turn,
)
from streamproc_benchmarks.server import Servers, ServerSpec, redis_version
from streamproc_benchmarks.verification import verify
from streamproc_benchmarks.workloads import WorkloadName

__all__ = ["measure_scaling", "places"]

_START_S: Final = 60.0
# Once a team has done this share of its records, some worker of it may soon be out of work.
_ENOUGH: Final = 0.85
# From the word to a team until its turn: every worker has read it by then, and those before it
# stand still.
_LEAD_S: Final = 0.02
_WORKLOADS: Final[dict[ProcessorName, WorkloadName]] = {
    "computing": "events",
    "fraud": "payments",
    "inventory": "orders",
    "noop": "events",
}


async def measure_scaling(
    plan: ScalingPlan, settings: dict[str, Any], say: Say
) -> tuple[Environment, Scaling]:
    """Have teams of 1 to `plan.workers` workers take turns, in fresh processes every round.

    Raises:
        CountsWrong: a record was lost, doubled or reordered, or there were too few.
        ChildFailed: a process ended, or said nothing.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    enough = len(usable) >= plan.workers
    own = usable[-plan.workers :] if enough else []
    apart = usable[: -plan.workers] if enough else []
    rounds: dict[int, list[ScalingRound]] = {n: [] for n in range(1, plan.workers + 1)}
    version = ""
    for number in range(1, plan.rounds + 1):
        round_ = _Round(plan, own, apart[0] if apart else None, settings)
        found, version = await round_.measure()
        for workers, each in found.items():
            rounds[workers].append(each)
            say(f"round {number} of {plan.rounds}, {workers} workers: {each.rate:,.0f} records/s")
    note = f"workers take turns on cores {own}" if own else "not pinned: fewer cores than workers"
    note += f", servers on core {apart[0]}" if apart else ", servers and load on the workers' cores"
    environment = read_environment(redis_server=version, pinning=note)
    return environment, Scaling(plan=plan, servers_apart=bool(apart), rounds=rounds)


def places(size: int, turn: int, cores: Sequence[int]) -> tuple[list[int], set[int]]:
    """Return the core of each worker of a team in a turn, and those for servers that have none.

    A worker changes its core from turn to turn. Servers are kept off the workers' cores as long as
    there are others: what they take from the largest team they do not take from a smaller one.
    """
    own = [cores[(place + turn) % len(cores)] for place in range(size) if cores]
    return own, set(cores) - set(own) or set(cores)


class _Team:
    """Workers that share a stream, and what they have said and done."""

    def __init__(self, directory: Path, size: int, records: int) -> None:
        self.size = size
        self.records = records * size
        self.stream = f"scaling-{size}"
        self.results = [directory / f"{self.stream}-{n}.account" for n in range(size)]
        self.workers: list[Child] = []
        self.states: dict[int, Holding] = {}
        self.driver: list[float] = []

    @property
    def done(self) -> int:
        return sum(state.records for state in self.states.values())

    def is_even(self, shards: int) -> bool:
        held = sorted(state.shards for state in self.states.values())
        return len(held) == self.size and sum(held) == shards and held[-1] - held[0] <= 1

    async def tell(self, *orders: Begin | Turn | Finish) -> None:
        """Tell each worker its own order, or all of them the only one."""
        for worker, order in zip(self.workers, itertools.cycle(orders), strict=False):
            await worker.tell(order)

    async def take_turn(self, seconds: float, cores: Sequence[int | None]) -> None:
        """Have all workers run for some seconds, each on its core."""
        begins = time.monotonic() + _LEAD_S
        ends = begins + seconds
        used = time.process_time()
        await self.tell(*[Turn(begins=begins, ends=ends, core=core) for core in cores])
        await asyncio.sleep(ends - time.monotonic())
        self.driver.append(time.process_time() - used)

    def accounts(self) -> list[Account]:
        return [msgspec.msgpack.decode(each.read_bytes(), type=Account) for each in self.results]


class _Round:
    """Servers, every team, and its stream: filled, read in turns, and then to its end."""

    def __init__(
        self,
        plan: ScalingPlan,
        cores: Sequence[int],
        server_core: int | None,
        settings: dict[str, Any],
    ) -> None:
        self._plan = plan
        self._cores = cores
        self._server_core = server_core
        self._settings = settings
        self._news = asyncio.Event()

    async def measure(self) -> tuple[dict[int, ScalingRound], str]:
        """Return what was measured, and the version of the Redis server."""
        plan = self._plan
        with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as path:
            directory = Path(path)
            teams = [_Team(directory, n, plan.records) for n in range(1, plan.workers + 1)]
            spec = ServerSpec(self._server_core, {team.stream: plan.shards for team in teams})
            async with _within(plan.limit), start_child("server", spec) as server:
                servers = msgspec.json.decode(await server.line(_START_S), type=Servers)
                version = await redis_version(servers.redis_url)
                async with contextlib.AsyncExitStack() as stack:
                    for team in teams:
                        await stack.enter_async_context(self._running(servers, team))
                    await self._until(lambda: all(team.is_even(plan.shards) for team in teams))
                    published = await asyncio.gather(*[self._load(servers, t) for t in teams])
                    await self._take_turns(teams, servers)
            accounts = {team.size: team.accounts() for team in teams}
        for size, each in zip(accounts, published, strict=True):
            _verify(f"{size} workers", each, accounts[size])
        return evaluated(accounts, {team.size: team.driver for team in teams}), version

    async def _take_turns(self, teams: Sequence[_Team], servers: Servers) -> None:
        for team in teams:
            await team.tell(Begin())
        for number in itertools.count():
            for team in teams:
                own, others = places(team.size, number, self._cores)
                if others and self._server_core is None:
                    for pid in (servers.server_pid, servers.redis_pid):
                        os.sched_setaffinity(pid, others)
                await team.take_turn(self._plan.turn, own or [None] * team.size)
            if any(team.done >= _ENOUGH * team.records for team in teams):
                break
        for team in teams:
            await team.tell(Finish())
        await self._until(lambda: all(team.done >= team.records for team in teams))

    @contextlib.asynccontextmanager
    async def _running(self, servers: Servers, team: _Team) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for number, result in enumerate(team.results):
                spec = ScalingWorkerSpec(
                    core=self._cores[number] if self._cores else None,
                    endpoint_url=servers.endpoint_url,
                    redis_url=servers.redis_url,
                    server_pid=servers.server_pid,
                    redis_pid=servers.redis_pid,
                    group=team.stream,
                    stream=team.stream,
                    processor=self._plan.processor,
                    result=str(result),
                    settings=self._settings,
                )
                child = await stack.enter_async_context(start_child("scaling_worker", spec))
                team.workers.append(child)
            readers = [
                tasks.create_task(self._listen(team, number, child))
                for number, child in enumerate(team.workers)
            ]
            try:
                yield
            finally:
                for reader in readers:
                    reader.cancel()

    async def _load(self, servers: Servers, team: _Team) -> Published:
        result = team.results[0].with_suffix(".published")
        spec = LoadSpec(
            core=self._server_core,
            endpoint_url=servers.endpoint_url,
            stream=team.stream,
            workload=_WORKLOADS[self._plan.processor],
            count=team.records,
            seed=self._plan.seed,
            result=str(result),
        )
        async with start_child("load", spec) as child:
            await child.line(self._plan.limit)
        return msgspec.msgpack.decode(result.read_bytes(), type=Published)

    async def _listen(self, team: _Team, number: int, child: Child) -> None:
        while True:
            team.states[number] = msgspec.json.decode(await child.line(_START_S), type=Holding)
            self._news.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ChildFailed(f"a round took more than {seconds:g} s (--limit)") from None


def _verify(what: str, published: Published, accounts: Sequence[Account]) -> None:
    consumed: dict[str, list[str]] = {}
    batches = itertools.chain.from_iterable(account.batches for account in accounts)
    for batch in sorted(batches, key=lambda each: each.at):
        consumed.setdefault(batch.shard, []).extend(batch.sequences)
    verify(published.shards, consumed).require_clean(what)
