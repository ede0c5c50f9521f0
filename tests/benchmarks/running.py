"""The benchmark command in a process of its own, as users run it."""

from __future__ import annotations

import os
import subprocess
import sys

BENCH = (sys.executable, "-m", "streamproc.cli.main", "bench")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"COLUMNS": "120"},
    )
