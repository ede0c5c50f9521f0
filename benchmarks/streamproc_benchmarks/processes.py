"""Processes of a benchmark: each starts fresh, gets a spec, answers in lines, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import IO

import msgspec

from streamproc.errors import StreamprocError
from streamproc_benchmarks.child import start_module

__all__ = ["Child", "ChildFailed", "Go", "announce", "await_turn", "start_child"]

_STDERR_SHOWN = 2_000
# Ours are loopback servers that take any credentials; this host's own must not be looked for.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Go(msgspec.Struct, frozen=True):
    """A line to a child that waits in `await_turn`."""


class ChildFailed(StreamprocError):
    """A process of the benchmark ended with an error, or said nothing in time."""


class Child:
    """A running process and the lines that it writes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, stderr: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._stderr = stderr

    async def line(self, timeout: float) -> bytes:
        """Return its next line.

        Args:
            timeout: seconds to wait for it.

        Raises:
            ChildFailed: it ended first, or said nothing.
        """
        assert self._process.stdout is not None, "start_child opens a pipe"
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
                if line:
                    return line
                await self._process.wait()
        except TimeoutError:
            raise ChildFailed(
                f"{self.name} said nothing for {timeout:g} s\n{self._complaint()}".rstrip()
            ) from None
        raise ChildFailed(
            f"{self.name} ended with code {self._process.returncode}:\n{self._complaint()}"
        )

    async def tell(self, message: msgspec.Struct) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None, "start_child opens a pipe"
        self._process.stdin.write(msgspec.json.encode(message) + b"\n")
        await self._process.stdin.drain()

    def terminate(self) -> None:
        """Have it leave what it is at, and end."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            self._process.terminate()

    async def end(self) -> None:
        """Close its stdin, which asks it to end, and make it end if it does not within 10 s."""
        assert self._process.stdin is not None, "start_child opens a pipe"
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _complaint(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-_STDERR_SHOWN:]


@contextlib.asynccontextmanager
async def start_child(module: str, spec: msgspec.Struct) -> AsyncIterator[Child]:
    """Run a module of this package with `spec` as its argument; end it with the context.

    Once nobody waits for its result, because of an error or an interrupt, it is sent SIGTERM, on
    which `run_loop` clears away; so it is when this process has died.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "STREAMPROC_"))
    }
    with tempfile.TemporaryFile() as stderr:
        process = await start_module(
            f"streamproc_benchmarks.{module}",
            msgspec.json.encode(spec).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=inherited | _ENVIRONMENT,
        )
        child = Child(module, process, stderr)
        try:
            yield child
        except BaseException:
            child.terminate()  # whatever it is at, nobody waits for that any more
            raise
        finally:
            await child.end()


def announce(message: msgspec.Struct) -> None:
    """Write a line for the parent, from within a child."""
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def await_turn() -> bool:
    """Stand still, with everything in this process, until the parent says a line.

    Returns:
        False if it closed stdin instead, or is gone.
    """
    return bool(sys.stdin.buffer.readline())
