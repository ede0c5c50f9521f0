"""The processes of a run: the servers and the workers, each with a log, none left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from streamproc.errors import StreamprocError
from streamproc_benchmarks.child import start_module

__all__ = ["DemoError", "Fleet", "Process", "child_environment", "within"]

T = TypeVar("T")

_TAIL_LINES: Final = 15
_END_S: Final = 5.0
_NEW_PROCESSES_S: Final = 0.5  # so often, guards are set for those that came since
_DEATH_SHOWS_S: Final = 0.5


class DemoError(StreamprocError):
    """The demonstration could not be carried through; the message says what happened."""


class Process:
    """A child process whose output goes to a file.

    Attributes:
        name: what the screen calls it.
        log: where its stderr goes, and its stdout unless that is read.
    """

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.log = log
        self.is_ending = False
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not exited yet."""
        return self._process.returncode is None

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Its output, if it was started with `read_stdout`."""
        assert self._process.stdout is not None, "started without read_stdout"
        return self._process.stdout

    async def end(self, how: signal.Signals) -> int:
        """Send a signal that ends it; return the exit code once it has."""
        self.is_ending = True
        if self.is_running:
            self._process.send_signal(how)
        return await self._process.wait()

    def kill(self) -> None:
        """Kill it at once if it runs."""
        self.is_ending = True
        if self.is_running:
            self._process.kill()

    async def guard(self) -> None:
        """Return when it exits because it was told to.

        Raises:
            DemoError: it exited without; with the end of its log.
        """
        code = await self._process.wait()
        if not self.is_ending:
            raise DemoError(f"{self.name} ended by itself with {_meaning(code)}; {self.tail()}")

    def tail(self) -> str:
        """Return the end of its log, for people."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        text = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"the end of its log, {self.log}:\n{text}"


class Fleet:
    """Starts processes and ends all of them, in order, with its context."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[Process] = []

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what still runs, the last started first."""
        for process in reversed(self._processes):
            if not process.is_running:
                continue
            try:
                async with asyncio.timeout(_END_S):
                    await process.end(signal.SIGTERM)
            except TimeoutError:
                await process.end(signal.SIGKILL)

    async def start(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        read_stdout: bool = False,
    ) -> Process:
        """Start `streamproc` with `arguments`."""
        log = self._directory / f"{name}.log"
        with log.open("wb") as output:
            child = await start_module(
                "streamproc.cli.main",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if read_stdout else output,
                stderr=output,
                env=environment,
            )
        process = Process(name, log, child)
        self._processes.append(process)
        return process

    async def run(self, play: Coroutine[Any, Any, T], *beside: Coroutine[Any, Any, None]) -> T:
        """Await `play` while the endless `beside` go on; stop when a process dies unasked.

        Raises:
            DemoError: a process died.
        """
        playing = asyncio.create_task(play)
        tasks = [playing, *[asyncio.create_task(other) for other in beside]]
        try:
            while not any(task.done() for task in tasks):
                await self._wait_guarded(tasks, _NEW_PROCESSES_S)
            failed = [task for task in tasks if task.done() and task.exception() is not None]
            if failed:
                # Whatever failed, a process that died is the better explanation.
                await self._wait_guarded([], _DEATH_SHOWS_S)
                failed[0].result()
            return playing.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def kill_all(self) -> None:
        """Kill whatever runs, at once."""
        for process in self._processes:
            process.kill()

    async def _wait_guarded(self, tasks: Sequence[asyncio.Task[Any]], timeout: float) -> None:
        """Wait until one of `tasks` ends, a process does, or `timeout` seconds have passed.

        Raises:
            DemoError: a process died unasked.
        """
        guards = [asyncio.create_task(p.guard()) for p in self._processes if not p.is_ending]
        try:
            await asyncio.wait([*tasks, *guards], timeout=timeout, return_when="FIRST_COMPLETED")
            for guard in guards:
                if guard.done():
                    guard.result()
        finally:
            for guard in guards:
                guard.cancel()
            await asyncio.gather(*guards, return_exceptions=True)


def child_environment() -> dict[str, str]:
    """Return an environment in which nothing leads away from the local servers.

    The caller's own settings, AWS profile and proxies must not find their way into a run.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STREAMPROC_", "AWS_"))
    }
    return kept | {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _meaning(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def within(seconds: float, what: str, awaitable: Awaitable[T]) -> T:
    """Await with a limit in seconds.

    Raises:
        DemoError: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise DemoError(f"{what} took longer than {seconds:.0f} s") from None
