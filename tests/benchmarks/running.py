"""The benchmark command in a process of its own, as users run it."""

from __future__ import annotations

import os
import subprocess
import sys

BENCH = (sys.executable, "-m", "streamproc.cli.main", "bench")


def run(
    *arguments: str, timeout: float = 100, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it for at most `timeout` seconds, with variables that differ from this process's."""
    return subprocess.run(
        [*BENCH, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"COLUMNS": "120"} | environment,
    )
