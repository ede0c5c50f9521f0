"""One worker of a simulated fleet: the real coordinator, shard pool, reader and transactor.

Only what starts threads and opens connections is replaced. The order of starting and stopping is
that of `streamproc.worker.Worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import msgspec

from streamproc import Context, Event, Processor, on
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.reader import ShardReader
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.leases.pace import checkpoint_interval
from streamproc.leases.thread import CoordinatorThread
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Engine
from streamproc.position import Position
from streamproc.shard_pool import ShardPool
from streamproc.shard_watch import ShardWatch
from streamproc.state.cache import CellCache
from tests.simulation import network
from tests.simulation.kernel import Host, SimLoop
from tests.simulation.network import Link, RemoteKinesis, RemoteLeases, RemoteState

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Tally", "Tick", "Worker"]


class Tick(Event, type="Tick", version=1, id="tick_id"):
    tick_id: str
    account: str
    number: int


class Counted(msgspec.Struct):
    last: int = 0
    count: int = 0


class Tally(Processor[Counted]):
    """Counts an account's events; sometimes slow, as an event's number has it."""

    name = "tally"

    def __init__(self, delivered: Callable[[str], None], slow: float) -> None:
        self._delivered = delivered
        self._slow = slow

    @on(Tick, key="account")
    async def tick(self, event: Tick, ctx: Context[Counted]) -> None:
        self._delivered(event.tick_id)
        if self._slow and event.number % 5 == 0:
            await asyncio.sleep(self._slow)
        ctx.state.last = event.number
        ctx.state.count += 1


class _Coordinator(CoordinatorThread):
    """A coordinator whose thread is another loop of the same simulated process."""

    def __init__(self, loop: SimLoop, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._own = loop

    async def start(self) -> None:
        self._end = asyncio.wrap_future(self._ended)
        self._own.start(self._run_here(asyncio.get_running_loop()))
        await asyncio.wrap_future(self._opened)

    async def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        await self.watch()

    async def _run_here(self, engine: asyncio.AbstractEventLoop) -> None:
        try:
            await self._main(engine)
        except BaseException as error:
            self._ended.set_exception(error)
            raise
        self._ended.set_result(None)


class Worker:
    """A worker process.

    Attributes:
        name: its worker id.
        host: its process, to crash and to pause.
        links: its ways to the lease store, the state store and Kinesis.
        stopped: whether it has stopped cleanly.
        leaving: whether it was asked to stop.
    """

    def __init__(self, world: World, name: str, rate: float) -> None:
        self.name = name
        self.host = Host(world.kernel, rate)
        self.stopped = False
        self.leaving = False
        self._world = world
        self._engine_loop, self._lease_loop = self.host.loop(), self.host.loop()
        rng = world.kernel.rng
        self.leases = Link(world.kernel, network.LEASES)
        self.state = Link(world.kernel, network.STATE)
        self.kinesis = Link(world.kernel, network.KINESIS)
        self.links = (self.leases, self.state, self.kinesis)
        self._budget = ByteBudget(4_000_000)
        self._api = RemoteKinesis(self.kinesis, world.core, world.stream_name)
        stores = tuple(
            RemoteState(self.state, store, world.oracle, name, partition)
            for partition, store in enumerate(world.state)
        )
        self._engine = Engine(
            group=world.group,
            stream=world.stream_name,
            routes=Routes(
                [Tally(world.oracle.delivered, world.plan.slow)], [store.keys for store in stores]
            ),
            stores=stores,
            cache=CellCache(1_000_000),
            gate=KeyGate(),
            rng=Random(rng.random()),
            wall_clock=world.wall_clock,
            clock=self.host.time,
        )
        self._pool = ShardPool(
            self._engine,
            self._open_reader,
            batch_records=world.plan.batch_records,
            advance_interval=checkpoint_interval(world.lease_config, metered=False),
            on_state_loss="halt",
            on_fatal=self._failed,
        )
        self.coordinator = _Coordinator(
            self._lease_loop,
            self._open_leases,
            name,
            world.lease_config,
            self._pool,
            open_roster=None if world.roster is None else self._open_roster,
            clock=self.host.time,
            rng=Random(rng.random()),
        )
        self._pool.attach(self.coordinator)
        self._watch = ShardWatch(
            world.stream_config,
            world.initial,
            self._api,
            self.coordinator,
            stores,
            keep_finished=20.0,
            fresh=8.0,
            clock=self.host.time,
            wall_clock=world.wall_clock,
            rng=Random(rng.random()),
        )
        self._rng = Random(rng.random())
        self._stopping: asyncio.Event | None = None
        self._main = self._engine_loop.start(self._run())

    @property
    def is_up(self) -> bool:
        """Whether it runs: neither dead nor stopped nor standing still."""
        return self.host.alive and not self.host.paused and not self.stopped

    @property
    def stays(self) -> bool:
        """Whether it runs and was not asked to stop."""
        return self.is_up and not self.leaving

    def holds(self, key: str) -> bool:
        """Whether it holds a lease by its own clock."""
        return self.coordinator._coordinator is not None and self.coordinator.is_valid(key)

    def acquisitions(self) -> int:
        """Return how many leases it ever took."""
        coordinator = self.coordinator._coordinator
        return 0 if coordinator is None else coordinator.statistics().acquired

    def handed_over(self) -> int:
        """Return how many leases it gave up because another worker had asked for them."""
        coordinator = self.coordinator._coordinator
        return 0 if coordinator is None else coordinator.statistics().handed_over

    def load(self) -> int:
        """Return how many leases it holds."""
        coordinator = self.coordinator._coordinator
        return 0 if coordinator is None else coordinator.statistics().held

    def stop(self) -> None:
        """Send it a SIGTERM."""
        self.leaving = True
        self._engine_loop.call_soon(self._asked_to_stop)

    # Inside.

    def _asked_to_stop(self) -> None:
        if self._stopping is None:
            self._main.cancel()
            self.stopped = True
        else:
            self._stopping.set()

    async def _open_leases(self) -> LeaseStore:
        return RemoteLeases(self.leases, self._world.table)

    async def _open_roster(self) -> LeaseStore:
        assert self._world.roster is not None
        return RemoteLeases(self.leases, self._world.roster)

    def _open_reader(self, lease: Lease, position: Position) -> ShardReader:
        return ShardReader(
            self._api,
            lease.key,
            position,
            self._budget,
            self._world.read_config,
            wall_clock=self._world.wall_clock,
            rng=self._rng,
            hash_range=lease.hash_range,
        )

    def _failed(self, error: BaseException) -> None:
        self._world.kernel.errors.append(f"{self.name}: {error!r}")

    async def _run(self) -> None:
        await self.coordinator.start()
        self._stopping = asyncio.Event()
        background = [
            asyncio.create_task(self.coordinator.watch()),
            asyncio.create_task(self._watch.run()),
        ]
        await self._stopping.wait()
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        self.coordinator.stop_taking()
        await self._pool.drain(self._world.drain_timeout)
        await self.coordinator.stop()
        self.stopped = True
