"""Runs workers of the real KCL 3 (Java) against local servers and reads what they tell."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["KclWorker", "compiled", "why_not"]

ENVIRONMENT_VARIABLE = "STREAMPROC_KCL"

# KCL logs to standard output by default, between the events.
_LOGGING = """\
<configuration>
  <appender name="file" class="ch.qos.logback.core.FileAppender">
    <file>{log}</file>
    <encoder><pattern>%d [%thread] %level %logger{{20}} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="file"/></root>
</configuration>
"""


def why_not() -> str | None:
    """Say why the real KCL cannot run here; None when it can."""
    for program in ("java", "javac"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH"
    if _jars() is None:
        return f"{ENVIRONMENT_VARIABLE} names no environment with KCL's jars; run: make kcl-interop"
    return None


def compiled(directory: Path) -> Path:
    """Compile the worker's program and return where it is."""
    source = Path(__file__).with_name("KclWorker.java")
    subprocess.run(
        ["javac", "-cp", f"{_jars()}/*", "-d", str(directory), str(source)],
        check=True,
        capture_output=True,
    )
    return directory


class KclWorker:
    """A process of KCL.

    Attributes:
        started: for each shard, the position it was begun at, once for each time.
        records: for each shard, the data of its records as they were delivered.
        ended: shards that were read to their end.
        lost: shards whose lease was lost.
        failures: exceptions at checkpoints.
    """

    def __init__(
        self,
        classes: Path,
        *,
        application: str,
        stream: str,
        kinesis: str,
        dynamodb: str,
        worker_id: str,
        failover_ms: int = 2_000,
    ) -> None:
        self.worker_id = worker_id
        self.started: dict[str, list[str]] = defaultdict(list)
        self.records: dict[str, list[bytes]] = defaultdict(list)
        self.ended: list[str] = []
        self.lost: list[str] = []
        self.failures: list[str] = []
        self._log = classes / f"{worker_id}.log"
        settings = classes / f"{worker_id}.xml"
        settings.write_text(_LOGGING.format(log=self._log))
        self._command = [
            "java",
            "-Xmx256m",
            f"-Dlogback.configurationFile={settings}",
            "-cp",
            f"{_jars()}/*:{classes}",
            "KclWorker",
            *(application, stream, kinesis, dynamodb, worker_id, str(failover_ms)),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._reading is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading
        # A subprocess's transport closes when the loop next runs.
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Ask for a graceful shutdown and wait for its end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    @property
    def delivered(self) -> list[bytes]:
        """The data of all records that were delivered."""
        return [data for records in self.records.values() for data in records]

    def log(self) -> str:
        """Return the end of KCL's own log."""
        return self._log.read_text()[-5_000:] if self._log.exists() else "no log"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            event, _, rest = line.decode().rstrip("\n").partition(" ")
            shard, _, detail = rest.partition(" ")
            if event == "started":
                self.started[shard].append(detail)
            elif event == "record":
                self.records[shard].append(detail.partition(" ")[2].encode())
            elif event == "ended":
                self.ended.append(shard)
            elif event == "lost":
                self.lost.append(shard)
            elif event == "failed":
                self.failures.append(rest)


def _jars() -> Path | None:
    environment = Path(os.environ.get(ENVIRONMENT_VARIABLE, "/nonexistent"))
    found = environment.glob("lib/python*/site-packages/amazon_kclpy/jars")
    return next(iter(found), None)
