"""A DynamoDB emulator for a peer's leases, on loopback, for one run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Final

from streamproc.testing.ports import free_port
from streamproc_benchmarks.processes import ChildFailed

__all__ = ["running_dynamodb"]

_START_S: Final = 30.0


@contextlib.asynccontextmanager
async def running_dynamodb(program: str) -> AsyncIterator[str]:
    """Run ministack on this process's core and give its endpoint URL.

    Raises:
        ChildFailed: it did not come up.
    """
    port = free_port()
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "dynamodb",
        "LOG_LEVEL": "ERROR",
    }
    with tempfile.TemporaryDirectory(prefix="streamproc-dynamodb-") as directory:
        process = await asyncio.create_subprocess_exec(
            program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env=os.environ | settings,
            cwd=directory,
        )
        try:
            await _listening(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    try:
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)  # nothing tells when it starts to listen
                    continue
                writer.close()
                await writer.wait_closed()
                return
    except TimeoutError:
        raise ChildFailed(f"the DynamoDB emulator did not listen within {_START_S:g} s") from None
    raise ChildFailed(f"the DynamoDB emulator ended with code {process.returncode}")
