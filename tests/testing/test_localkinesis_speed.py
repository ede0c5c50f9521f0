"""The measuring tool measures; what it measures is in the documentation, not asserted here."""

from __future__ import annotations

import asyncio
import sys


async def test_the_speed_command_measures_every_kind_of_request() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamproc.testing.localkinesis.speed",
        "--records=20000",
        "--seconds=0.05",
        "--repeats=1",
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    lines = output.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["GetRecords"] * 3 + ["PutRecords"]
    assert all("/s" in line for line in lines)
