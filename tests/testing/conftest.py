"""What the tests of this folder share."""

from __future__ import annotations

import os
import time
from pathlib import Path


def until_gone(pid: int, *, within_s: float) -> None:
    """Wait for the end of a process that is not a child of this one, hence cannot be waited for."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        status = Path(f"/proc/{pid}/stat")
        # Where nobody reaps orphans a killed process stays as a zombie.
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.005)
    raise AssertionError(f"process {pid} still runs after {within_s} s")
