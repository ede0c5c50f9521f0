"""A benchmark that is ended in its midst leaves nothing behind: no process, and no file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.benchmarks.running import BENCH
from tests.waiting import until

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

# A scenario's options, and what runs once it is in its midst.
SCENARIOS: Final = {
    "throughput": (
        ("--records", "20000", "--rounds", "100", "--consumer", "noop"),
        ("server", "consumer"),
    ),
    "latency": (("--rate", "100", "--consumer", "noop"), ("server", "consumer")),
    "recovery": ((), ("recovery_round", "run")),
    "soak": (("--part", "overload"), ("soak_run", "run")),
    "idle": (("--shards", "4"), ("server", "idle")),
    "scaling": (("--workers", "1"), ("server", "scaling_worker")),
    "dedupe": (("--ids", "100000000"), ("--bind",)),
}


class Descendants:
    """All processes that a command started, found by a mark in their environment."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def command_lines(self) -> list[list[str]]:
        """Return what runs."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().decode().split("\0"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended, or is another user's
        # A process that has ended, and that nobody has waited for, has no command line.
        return [line for line in found if line != [""]]

    def run(self, *names: str) -> bool:
        """Whether there is a process for each name, as a word or as the last part of a module's."""
        lines = self.command_lines()
        return all(
            any(word.rpartition(".")[2] == name for line in lines for word in line)
            for name in names
        )


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory whose path is short enough for the sockets of workers."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@asynccontextmanager
async def in_its_midst(
    scenario: str, directory: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Descendants]]:
    """Run a scenario until all its processes are there; `directory` is for temporary files."""
    options, names = SCENARIOS[scenario]
    descendants = Descendants()
    process = await asyncio.create_subprocess_exec(
        # Where the tests run in the background, Ctrl-C may be ignored, which would be inherited.
        *("env", "--default-signal=INT"),
        *BENCH,
        scenario,
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"BENCH_TEST": descendants.mark, "TMPDIR": str(directory)},
    )
    try:
        await until(lambda: descendants.run(*names))
        yield process, descendants
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def left_behind(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_told_to_end_it_ends_what_it_started(scenario: str, directory: Path) -> None:
    async with in_its_midst(scenario, directory) as (process, descendants):
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert descendants.command_lines() == []
        assert process.returncode == 128 + signal.SIGTERM, errors.decode()
        assert b"Traceback" not in errors
        assert left_behind(directory) == []


async def test_an_interrupt_ends_it_as_well(directory: Path) -> None:
    async with in_its_midst("soak", directory) as (process, descendants):
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert descendants.command_lines() == []
        assert process.returncode == 128 + signal.SIGINT, errors.decode()
        assert b"Traceback" not in errors
        assert left_behind(directory) == []


@pytest.mark.parametrize("scenario", ["throughput", "latency", "soak"])
async def test_what_it_started_ends_when_it_is_killed(scenario: str, directory: Path) -> None:
    async with in_its_midst(scenario, directory) as (process, descendants):
        process.kill()
        await until(lambda: descendants.command_lines() == [], 20)
