"""Runs a lease coordinator in a thread of its own, out of reach of handlers that block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
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
    """

    def __init__(
        self,
        open_store: Callable[[], Awaitable[LeaseStore]],
        worker_id: str,
        config: LeaseConfig,
        listener: Listener,
    ) -> None:
        self._open_store = open_store
        self._worker_id = worker_id
        self._config = config
        self._listener = listener
        self._coordinator: LeaseCoordinator | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    # The life of the thread.

    async def start(self) -> None:
        """Start the thread and open the store in it.

        Raises:
            ConfigError: an option of the store is wrong.
            LeaseStoreError: the store cannot be reached.
        """
        engine = asyncio.get_running_loop()
        thread = threading.Thread(
            target=self._run_thread, args=(engine,), name=f"leases-{self._worker_id}", daemon=True
        )
        thread.start()
        await asyncio.wrap_future(self._opened)

    async def watch(self) -> None:
        """Wait for the coordinator's end; run it in a task beside the engine.

        Raises:
            LeaseStoreError: the coordinator died; no lease is renewed any more.
        """
        # Shielded, for a cancelled watcher must not cancel the thread's own report.
        await asyncio.shield(asyncio.wrap_future(self._ended))

    async def stop(self) -> None:
        """Stop the coordinator, close the store and wait for the thread's end."""
        if not self._ended.done():
            await self._call(self._running().stop())
        await self.watch()

    def _run_thread(self, engine: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(self._main(engine))
        except BaseException as error:  # The engine is told, wherever it waits.
            if not self._opened.done():
                self._opened.set_exception(error)
                self._ended.set_result(None)
                return
            log.exception("%s: the lease coordinator died", self._worker_id)
            died = LeaseStoreError(f"the lease coordinator died: {error!r}; restart the worker")
            died.__cause__ = error
            self._ended.set_exception(died)
        else:
            self._ended.set_result(None)

    async def _main(self, engine: asyncio.AbstractEventLoop) -> None:
        store = await self._open_store()
        try:
            self._loop = asyncio.get_running_loop()
            self._coordinator = LeaseCoordinator(
                store, self._worker_id, self._config, _OnLoop(engine, self._listener)
            )
            run = asyncio.ensure_future(self._coordinator.run())
            self._opened.set_result(None)
            await run
        finally:
            await store.aclose()
