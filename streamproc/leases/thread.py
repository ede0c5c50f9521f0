"""Runs a lease coordinator in a thread of its own, out of reach of handlers that block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from streamproc.config import LeaseConfig
from streamproc.errors import LeaseStoreError
from streamproc.leases.coordinator import LeaseCoordinator
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.leases.listener import Listener
from streamproc.leases.statistics import LeaseStatistics
from streamproc.position import Position

__all__ = ["CoordinatorThread"]

log = logging.getLogger("streamproc.leases")
T = TypeVar("T")


class CoordinatorThread:
    """A `LeaseCoordinator` with its store, event loop and thread; the same operations, awaitable.

    A handler that keeps the engine's loop busy for longer than a lease cannot lose the lease: the
    renewals do not pass through that loop. The listener is called on the engine's loop, that is,
    the one that ran `start`.

    Use: ``await start()``; keep a task on ``watch()``; before the end ``stop_taking()``, release
    every shard, then ``await stop()``.

    Args:
        open_store: opens the store; awaited inside the thread, where its connections then live.
        worker_id: unique in the group.
        config: the lease settings.
        listener: told of leases acquired, lost and asked for, on the engine's loop.
        open_roster: opens the store of the workers' heartbeats, if they renew all leases at once.
        clock: monotonic seconds, the same on both threads.
        rng: spreads workers in time and over leases.
    """

    def __init__(
        self,
        open_store: Callable[[], Awaitable[LeaseStore]],
        worker_id: str,
        config: LeaseConfig,
        listener: Listener,
        *,
        open_roster: Callable[[], Awaitable[LeaseStore]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._open_store = open_store
        self._open_roster = open_roster
        self._worker_id = worker_id
        self._config = config
        self._listener = listener
        self._clock = clock
        self._rng = rng
        self._thread: threading.Thread | None = None
        self._coordinator: LeaseCoordinator | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._end: asyncio.Future[None] | None = None

    # The life of the thread.

    async def start(self) -> None:
        """Start the thread and open the store in it.

        Raises:
            ConfigError: an option of the store is wrong.
            LeaseStoreError: the store cannot be reached.
        """
        self._end = asyncio.wrap_future(self._ended)
        self._thread = threading.Thread(
            target=self._run, args=(asyncio.get_running_loop(),), name="leases", daemon=True
        )
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def watch(self) -> None:
        """Wait for the coordinator's end; run it in a task beside the engine.

        Raises:
            LeaseStoreError: the coordinator died; no lease is renewed any more.
        """
        if self._end is not None:
            # A cancelled watcher must not cancel the thread's own report.
            await asyncio.shield(self._end)

    async def stop(self) -> None:
        """Stop the coordinator, close the store and wait for the thread's end.

        Raises:
            LeaseStoreError: the coordinator had died before.
        """
        if self._thread is None:
            return
        if self._loop is not None:
            # A loop that is closed already has nothing left to stop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        try:
            await self.watch()
        finally:
            if self._ended.done():
                self._thread.join()  # It has reported its end: nothing is left to wait for.

    def _run(self, engine: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(self._main(engine))
        except BaseException as error:  # Whatever it is, the engine is told where it waits.
            if not self._opened.done():
                self._opened.set_exception(error)
                self._ended.set_result(None)
                return
            log.exception("%s: the lease coordinator died", self._worker_id)
            cause = _innermost(error)
            died = LeaseStoreError(f"the lease coordinator died ({cause!r}); restart the worker")
            died.__cause__ = cause
            self._ended.set_exception(died)
        else:
            self._ended.set_result(None)

    async def _main(self, engine: asyncio.AbstractEventLoop) -> None:
        async with contextlib.AsyncExitStack() as stores:
            store = await self._open_store()
            stores.push_async_callback(store.aclose)
            roster = None
            if self._open_roster is not None:
                roster = await self._open_roster()
                stores.push_async_callback(roster.aclose)
            self._loop = asyncio.get_running_loop()
            self._coordinator = LeaseCoordinator(
                store,
                self._worker_id,
                self._config,
                _OnLoop(engine, self._listener),
                roster=roster,
                clock=self._clock,
                rng=self._rng,
            )
            if not self._opened.set_running_or_notify_cancel():
                return  # The engine gave up waiting for the store.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._coordinator.run())
                self._opened.set_result(None)
                await self._stop.wait()
                await self._coordinator.stop()

    # What the engine asks for; each as the coordinator's method of that name.

    async def release(
        self,
        key: str,
        position: Position | None = None,
        incarnation: str | None = None,
        epoch: int | None = None,
    ) -> bool:
        """Checkpoint and give up a lease: to the worker that asked, or to nobody."""
        return await self._call(self._running.release(key, position, incarnation, epoch))

    async def finish(self, key: str, children: Sequence[Lease], epoch: int | None = None) -> bool:
        """Create the children's leases, then mark the shard's lease SHARD_END."""
        return await self._call(self._running.finish(key, children, epoch))

    async def outrun(self, key: str, epoch: int) -> Lease | None:
        """Raise the lease's counter, and with it this worker's epoch, past `epoch`."""
        return await self._call(self._running.outrun(key, epoch))

    async def create(self, leases: Iterable[Lease], until: float | None = None) -> int:
        """Create the leases that do not exist yet, parents first, and none after `until`."""
        return await self._call(self._running.create(leases, until))

    async def delete(self, leases: Iterable[Lease]) -> int:
        """Delete rows that are still as given."""
        return await self._call(self._running.delete(leases))

    async def leases(self) -> list[Lease]:
        """Return all leases as they are stored now."""
        return await self._call(self._running.leases())

    def stop_taking(self) -> None:
        """Take and ask for no more leases; those held are kept until they are released."""
        self._running.stop_taking()

    def note_position(
        self, key: str, position: Position, incarnation: str | None, epoch: int | None = None
    ) -> None:
        """Remember a shard's committed position for the next checkpoint."""
        self._running.note_position(key, position, incarnation, epoch)

    def valid_until(self, key: str) -> float:
        """Return the monotonic time in seconds until which the lease is mine; 0.0 if it is not."""
        return self._running.valid_until(key)

    def is_valid(self, key: str) -> bool:
        """Whether the lease is mine now by this host's monotonic clock."""
        return self._running.is_valid(key)

    def snapshot(self) -> tuple[Lease, ...]:
        """Return all leases as of the last scan."""
        return self._running.snapshot()

    def scanned_at(self) -> float:
        """Return when the last successful scan was sent, in monotonic seconds; 0.0 before any."""
        return self._running.scanned_at()

    def statistics(self) -> LeaseStatistics:
        """Return the counts so far."""
        return self._running.statistics()

    @property
    def _running(self) -> LeaseCoordinator:
        if self._coordinator is None:
            raise LeaseStoreError("the lease coordinator is not started; await start() first")
        return self._coordinator

    async def _call(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run an operation in the coordinator's loop; fail if that loop ends before it does."""
        if self._loop is None or self._end is None or self._loop.is_closed():
            operation.close()
            raise LeaseStoreError("the lease coordinator is not running")
        try:
            future = asyncio.run_coroutine_threadsafe(operation, self._loop)
        except RuntimeError:  # The loop was closed this very moment.
            operation.close()
            raise LeaseStoreError("the lease coordinator is not running") from None
        answer = asyncio.wrap_future(future)
        try:
            await asyncio.wait((answer, self._end), return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and not answer.cancelled():
                return answer.result()
        finally:
            answer.cancel()
        operation.close()  # It may never have begun.
        raise LeaseStoreError("the lease coordinator ended before it could answer")


def _innermost(error: BaseException) -> BaseException:
    """Return the one error that task groups have wrapped, or the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _OnLoop:
    """Passes a listener's calls on to the loop it lives in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._loop = loop
        self._listener = listener

    def lease_acquired(self, lease: Lease) -> None:
        self._loop.call_soon_threadsafe(self._listener.lease_acquired, lease)

    def lease_lost(self, key: str) -> None:
        self._loop.call_soon_threadsafe(self._listener.lease_lost, key)

    def handover_requested(self, key: str) -> None:
        self._loop.call_soon_threadsafe(self._listener.handover_requested, key)
