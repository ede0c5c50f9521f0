"""The coordinator in its own thread, with real threads and time; leases are short."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from streamproc.config import LeaseConfig
from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore, asked_to_hand_over, taken
from streamproc.leases.thread import CoordinatorThread
from streamproc.position import SHARD_END, TRIM_HORIZON, Position
from streamproc_checkpoints.memory import MemoryLeaseStore

CONFIG = LeaseConfig(duration=0.4, scan_interval=0.05, checkpoint_interval=0.1)
SHARD = Lease(key="s", checkpoint=TRIM_HORIZON)


class Engine:
    """Hears the coordinator, and remembers on which thread."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.threads: set[threading.Thread] = set()
        self.lease: Lease | None = None

    def lease_acquired(self, lease: Lease) -> None:
        self.lease = lease
        self._hear("acquired", lease.key)

    def lease_lost(self, key: str) -> None:
        self._hear("lost", key)

    def handover_requested(self, key: str) -> None:
        self._hear("asked", key)

    def _hear(self, what: str, key: str) -> None:
        self.threads.add(threading.current_thread())
        self.heard.put_nowait((what, key))


class Table(MemoryLeaseStore):
    """A store that can break, and tells when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()
        self.broken = False
        self.gate: asyncio.Event | None = None
        self.reached = threading.Event()

    async def list(self) -> list[Lease]:
        if self.broken:
            raise ZeroDivisionError("a defect of the store")
        return await super().list()

    async def create(self, lease: Lease) -> bool:
        if self.gate is not None:
            self.reached.set()
            await self.gate.wait()
        return await super().create(lease)

    async def aclose(self) -> None:
        self.closed.set()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def leases(engine: Engine, table: Table) -> AsyncIterator[CoordinatorThread]:
    """A started coordinator over an empty table; stopped after the test, and its thread is gone."""

    async def open_table() -> LeaseStore:
        return table

    thread = CoordinatorThread(open_table, "me", CONFIG, engine)
    await thread.start()
    yield thread
    try:
        await thread.stop()
    except LeaseStoreError:
        assert table.broken
    assert table.closed.is_set()
    assert _lease_threads() == []


def _lease_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "leases"]


async def test_a_blocked_engine_keeps_its_leases(
    leases: CoordinatorThread, engine: Engine, table: Table
) -> None:
    await leases.create([SHARD])
    assert await engine.heard.get() == ("acquired", "s")
    time.sleep(CONFIG.duration * 3)  # noqa: ASYNC251  # A handler that blocks the loop.
    assert leases.is_valid("s")
    assert leases.valid_until("s") > time.monotonic()
    assert engine.lease is not None
    assert (await table.list())[0].owner == "me"
    assert leases.statistics().lost == 0
    assert engine.heard.empty()


async def test_the_engine_hears_on_its_own_thread(
    leases: CoordinatorThread, engine: Engine, table: Table
) -> None:
    await leases.create([SHARD])
    assert await engine.heard.get() == ("acquired", "s")
    await _write(table, lambda row: asked_to_hand_over(row, "other"))
    assert await engine.heard.get() == ("asked", "s")
    await _write(table, lambda row: taken(row, "other"))
    assert await engine.heard.get() == ("lost", "s")
    assert engine.threads == {threading.current_thread()}


async def test_operations_reach_the_store(
    leases: CoordinatorThread, engine: Engine, table: Table
) -> None:
    other = Lease(key="t", checkpoint=TRIM_HORIZON)
    assert await leases.create([SHARD, other]) == 2
    assert {await engine.heard.get(), await engine.heard.get()} == {
        ("acquired", "s"),
        ("acquired", "t"),
    }
    assert {lease.key for lease in leases.snapshot()} == {"s", "t"}
    raised = await leases.outrun("s", 100)
    assert raised is not None
    assert raised.counter > 100
    leases.note_position("s", Position("4"), "inc", raised.counter)
    leases.stop_taking()
    assert await leases.release("s", epoch=raised.counter)
    child = Lease(key="u", checkpoint=TRIM_HORIZON, parents=("t",))
    assert await leases.finish("t", [child])
    assert await leases.delete([child]) == 1
    rows = {lease.key: lease for lease in await leases.leases()}
    assert (rows["s"].owner, rows["s"].checkpoint) == (None, Position("4"))
    assert (rows["t"].checkpoint, rows["t"].children) == (SHARD_END, ("u",))
    assert leases.statistics().acquired == 2


async def test_stop_gives_up_the_leases(
    leases: CoordinatorThread, engine: Engine, table: Table
) -> None:
    await leases.create([SHARD])
    await engine.heard.get()
    watch, impatient = (asyncio.create_task(leases.watch()) for _ in range(2))
    await asyncio.wait([impatient], timeout=0)
    impatient.cancel()
    await asyncio.wait([impatient])
    await leases.stop()
    await watch
    assert (await table.list())[0].owner is None
    with pytest.raises(LeaseStoreError, match="not running"):
        await leases.create([SHARD])


@pytest.mark.parametrize("error", [ConfigError("wrong option"), LeaseStoreError("away")])
async def test_a_store_that_cannot_be_opened_fails_the_start(
    engine: Engine, error: Exception
) -> None:
    async def open_nothing() -> LeaseStore:
        raise error

    thread = CoordinatorThread(open_nothing, "me", CONFIG, engine)
    with pytest.raises(type(error), match=str(error)):
        await thread.start()
    await thread.stop()
    assert _lease_threads() == []


async def test_a_start_that_is_given_up_leaves_no_thread(engine: Engine, table: Table) -> None:
    opening, go_on = threading.Event(), threading.Event()

    async def open_slowly() -> LeaseStore:
        opening.set()
        await asyncio.to_thread(go_on.wait)
        return table

    thread = CoordinatorThread(open_slowly, "me", CONFIG, engine)
    start = asyncio.create_task(thread.start())
    await asyncio.to_thread(opening.wait)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    go_on.set()
    await thread.stop()
    assert table.closed.is_set()
    assert _lease_threads() == []


async def test_the_engine_is_told_when_the_coordinator_dies(
    leases: CoordinatorThread, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    watch = asyncio.create_task(leases.watch())
    table.broken = True
    with pytest.raises(LeaseStoreError, match=r"coordinator died \(ZeroDivisionError.*defect"):
        await watch
    with pytest.raises(LeaseStoreError, match="not running"):
        await leases.release("s")
    assert "lease coordinator died" in caplog.text


async def test_an_operation_under_way_fails_when_the_coordinator_dies(
    leases: CoordinatorThread, table: Table
) -> None:
    table.gate = asyncio.Event()
    creating = asyncio.create_task(leases.create([SHARD]))
    await asyncio.to_thread(table.reached.wait)
    table.broken = True
    with pytest.raises(LeaseStoreError, match="ended before"):
        await creating


async def test_nothing_can_be_asked_before_the_start(engine: Engine) -> None:
    async def open_nothing() -> LeaseStore:
        raise AssertionError("not to be opened")

    thread = CoordinatorThread(open_nothing, "me", CONFIG, engine)
    with pytest.raises(LeaseStoreError, match="start"):
        await thread.release("s")
    await thread.stop()


async def _write(table: Table, change: Callable[[Lease], Lease]) -> None:
    """Write as another worker would, until it is not forestalled by a renewal."""
    while True:
        [row] = await table.list()
        if await table.replace(row, change(row)) == change(row):
            return
