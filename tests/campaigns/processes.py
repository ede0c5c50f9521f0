"""Worker processes by the hundred: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

__all__ = ["ForkedWorker"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["streamproc.cli.run", "streamproc_checkpoints.redis", __name__])


class ForkedWorker:
    """What `streamproc run` does, in a process of its own that real signals reach.

    Args:
        settings: the worker's, by dotted keys; the processor is `tests.worker.ledger:Ledger`.
        log: file that its stderr is appended to.
    """

    def __init__(self, settings: Mapping[str, Any], log: Path) -> None:
        self.name: str = settings["worker.id"]
        self._process: BaseProcess = _context.Process(
            target=_work, args=(dict(settings), log), daemon=True
        )

    async def start(self) -> None:
        """Start it."""
        await asyncio.to_thread(self._process.start)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.exitcode is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    async def end(self, number: signal.Signals, timeout: float = 20.0) -> int | None:
        """Send a signal that ends it, and wait; None when it has not ended in time."""
        self.signal(number)
        await asyncio.to_thread(self._process.join, timeout)
        return self._process.exitcode


def _work(settings: dict[str, Any], log: Path) -> None:
    from streamproc.cli.loop import run_loop
    from streamproc.cli.run import run_worker
    from streamproc.observability.logs import configure_logging
    from streamproc.settings import load_config
    from streamproc.worker import Worker
    from tests.worker.ledger import Ledger

    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    with log.open("a") as sys.stderr:
        config = load_config(None, {}, settings)
        configure_logging(config.worker.log_level, config.worker.log_format)
        run_loop(run_worker(config, Worker(config, [Ledger()])))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
