"""Runs several worker processes on one host: starts, restarts, stops and speaks for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from streamproc.config import Config
from streamproc.observability.fleet import FleetPages, WorkerProcess
from streamproc.observability.http import serve_pages
from streamproc.parent_watch import PARENT_PIPE

__all__ = ["Patience", "Supervisor", "supervise"]

log = logging.getLogger(__name__)

# Past a worker's own drain timeout, before it is killed; within the 30 s of ECS.
_KILL_GRACE_S: Final = 2.0
# A unix socket's path holds about a hundred bytes.
_LONGEST_DIRECTORY: Final = 80


class Patience:
    """How the supervisor deals with workers that die.

    Args:
        settled: seconds after which a worker counts as well started.
        attempts: deaths in a row before that, after which the supervisor gives up.
        least: seconds before the first restart; doubled for each death in a row.
        most: bound on that.
    """

    def __init__(
        self, settled: float = 30.0, attempts: int = 6, least: float = 0.5, most: float = 30.0
    ) -> None:
        self.settled = settled
        self.attempts = attempts
        self._least = least
        self._most = most

    def delay(self, deaths: int, rng: random.Random) -> float:
        """Return the seconds to wait after so many deaths in a row."""
        return min(self._most, self._least * 2.0 ** (deaths - 1)) * (0.5 + rng.random() / 2)


async def supervise(
    config: Config,
    child_command: Sequence[str],
    patience: Patience | None = None,
    paths: Sequence[str] = (),
) -> int:
    """Run `worker.processes` workers until told to stop; return the exit code.

    Args:
        config: the settings.
        child_command: starts one worker; `--set` options are added to it.
        patience: how to deal with workers that die.
        paths: those of the pages that processors add.

    Raises:
        ConfigError: the HTTP port cannot be had.
    """
    return await Supervisor(config, child_command, patience, paths=paths).run()


class Supervisor:
    """Keeps worker processes running, as many as `worker.processes` says.

    The first SIGTERM or SIGINT is passed on as SIGTERM, and workers drain; the second kills them
    at once. Workers have process groups of their own, so that Ctrl-C reaches this process only.
    No worker outlives it: see `parent_watch`.
    """

    def __init__(
        self,
        config: Config,
        child_command: Sequence[str],
        patience: Patience | None = None,
        rng: random.Random | None = None,
        paths: Sequence[str] = (),
    ) -> None:
        self._paths = paths
        self._config = config
        self._command = list(child_command)
        self._patience = patience or Patience()
        self._rng = rng or random.Random()
        self._stopping = asyncio.Event()
        self._signals = 0
        self._killed_by: int | None = None
        self._processes: dict[int, Process] = {}
        self._codes: list[int] = []

    async def run(self) -> int:
        """Run until stopped, or until a worker keeps dying; return the exit code.

        0 when every worker ended well; else the first bad code among theirs, or 128 plus the
        signal's number after a second signal.
        """
        config, count = self._config, self._config.worker.processes
        assert count != "auto", "how many that is was settled before"
        with _socket_directory() as directory, _lifeline() as pipe, self._signal_handlers():
            workers = [
                WorkerProcess(number=number, socket=str(directory / f"{number}.sock"))
                for number in range(count)
            ]
            pages = FleetPages(workers, config.group, config.stream.name, self._paths)
            async with serve_pages(pages, config.http) as server:
                log.info("%d worker processes; state at %s", len(workers), server)
                try:
                    async with asyncio.TaskGroup() as group:
                        deadline = group.create_task(self._enforce_drain())
                        keepers = [group.create_task(self._keep(w, pipe)) for w in workers]
                        await asyncio.wait(keepers)
                        deadline.cancel()
                finally:
                    await self._kill_all()
        if self._killed_by is not None:
            return 128 + self._killed_by
        return next((code for code in self._codes if code), 0)

    def stop(self) -> None:
        """Have all workers drain and end."""
        self._stopping.set()
        for process in self._processes.values():
            _send(process, signal.SIGTERM)

    async def _keep(self, worker: WorkerProcess, pipe: int) -> None:
        """Run a worker in one place again and again, until stopped or hopeless."""
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            process = await self._start(worker, pipe)
            code = await process.wait()
            worker.pid = None
            del self._processes[worker.number]
            if self._stopping.is_set():
                self._codes.append(_exit_code(code))
                return
            settled = time.monotonic() - started >= self._patience.settled
            deaths = 1 if settled else deaths + 1
            if deaths >= self._patience.attempts:
                log.error("worker %d died %d times at its start; giving up", worker.number, deaths)
                # One that ends well without being asked is no better.
                self._codes.append(_exit_code(code) or 1)
                self.stop()
                return
            delay = self._patience.delay(deaths, self._rng)
            log.error(
                "worker %d (pid %d) died %s; starting it again in %.1f s",
                worker.number, process.pid, _cause(code), delay,
            )  # fmt: skip
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            worker.restarts += not self._stopping.is_set()

    async def _start(self, worker: WorkerProcess, pipe: int) -> Process:
        settings = {"worker.processes": "1", "http.socket": worker.socket}
        if self._config.worker.id is not None:
            settings["worker.id"] = f"{self._config.worker.id}-{worker.number}"
        flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *flags,
            env=os.environ | {PARENT_PIPE: str(pipe)},
            pass_fds=(pipe,),
            start_new_session=True,
        )
        self._processes[worker.number] = process
        worker.pid = process.pid
        log.info("worker %d: pid %d", worker.number, process.pid)
        if self._stopping.is_set():  # told to stop while the process was being started
            _send(process, signal.SIGTERM)
        return process

    async def _enforce_drain(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._config.worker.drain_timeout + _KILL_GRACE_S)
        for number, process in self._processes.items():
            log.error("worker %d (pid %d) has not drained in time; killed", number, process.pid)
            _send(process, signal.SIGKILL)

    async def _kill_all(self) -> None:
        """Leave no worker behind, whatever happened here."""
        for process in self._processes.values():
            _send(process, signal.SIGKILL)
        await asyncio.gather(*[process.wait() for process in self._processes.values()])

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            log.info("%s: all workers drain", signal.Signals(number).name)
            self.stop()
            return
        log.warning("second signal: killing the workers")
        self._killed_by = number
        for process in self._processes.values():
            _send(process, signal.SIGKILL)


def _send(process: Process, number: signal.Signals) -> None:
    # The process may have ended, and the loop not have said so yet.
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _exit_code(code: int) -> int:
    """Return a process's exit code as a shell would show it."""
    # Ended by SIGTERM: it had no handler yet, so it had no shard either.
    if code == -signal.SIGTERM:
        return 0
    return code if code >= 0 else 128 - code


def _cause(code: int) -> str:
    return f"with code {code}" if code >= 0 else f"of {signal.Signals(-code).name}"


@contextlib.contextmanager
def _socket_directory() -> Iterator[Path]:
    """Make a directory for this user only, whose path is short enough for sockets."""
    base = tempfile.gettempdir()
    parent = base if len(os.fsencode(base)) < _LONGEST_DIRECTORY else "/tmp"
    with tempfile.TemporaryDirectory(prefix="streamproc-", dir=parent) as directory:
        yield Path(directory)


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """Yield the reading end of a pipe that ends with this process."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)
