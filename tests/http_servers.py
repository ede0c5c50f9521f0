"""Servers of others that tests start: processes that answer HTTP on loopback."""

from __future__ import annotations

import http.client
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_START_TIMEOUT_S = 30.0


def wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    """Wait until a server answers; what it logged is told when it does not."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):  # refused until it listens
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", path)
                connection.getresponse().read()
            finally:
                connection.close()
            return
        time.sleep(0.02)  # nothing tells when it starts to listen
    raise RuntimeError(f"{log.stem} did not come up:\n{log.read_text()[-2000:]}")
