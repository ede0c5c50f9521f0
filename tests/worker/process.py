"""Workers in processes of their own, driven by real signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.worker.group import Group

ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """`streamproc run` as an operator starts it; its status comes over its unix socket."""

    def __init__(self, group: Group, directory: Path, name: str, **settings: Any) -> None:
        self.name = name
        self.socket = directory / f"{name}.sock"
        self.log = directory / f"{name}.log"
        self._settings = {
            "processors.ledger.use": "tests.worker.ledger:Ledger",
            **group.settings(worker__id=name, http__socket=str(self.socket), **settings),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "streamproc.cli.main", "run"]
        for key, value in self._settings.items():
            command += ["--set", f"{key}={orjson.dumps(value).decode()}"]
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=log)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The running process."""
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def exit_code(self, timeout: float = 20.0) -> int:
        """Wait for the end."""
        async with asyncio.timeout(timeout):
            return await self.process.wait()

    async def status(self) -> dict[str, Any] | None:
        """Return /status, None while nobody listens."""
        try:
            connector = aiohttp.UnixConnector(str(self.socket))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("http://worker/status") as answer,
            ):
                return orjson.loads(await answer.read())  # type: ignore[no-any-return]
        except aiohttp.ClientConnectionError:
            return None

    async def shards(self) -> int:
        """Return how many shards it processes."""
        status = await self.status()
        return 0 if status is None else len(status["shards"])

    async def aclose(self) -> None:
        """End the process, however the test went."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
