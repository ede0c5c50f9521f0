"""Runs `kinesis-local`, an independent Kinesis emulator for Node, on loopback only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamproc.testing.ports import free_port
from tests.http_servers import wait_until_ready

PACKAGE_VERSION = "0.6.2"
ENVIRONMENT_VARIABLE = "STREAMPROC_KINESIS_LOCAL"

# The emulator binds all interfaces and offers no setting for it; and it must not outlive the tests,
# so it ends when the pipe on its standard input does.
_PRELOAD = """\
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const first = args[0];
  if (first !== null && typeof first === "object" && "port" in first) {
    args[0] = { ...first, host: "127.0.0.1" };
  } else {
    args = [Number(first), "127.0.0.1", ...args.filter((a) => typeof a === "function")];
  }
  return listen.apply(this, args);
};
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
"""
_STATE_SECONDS = (
    "CREATE_STREAM",
    "DELETE_STREAM",
    "MERGE_SHARDS",
    "SPLIT_SHARD",
    "UPDATE_SHARD_COUNT",
)


def why_not() -> str | None:
    """Say why the emulator cannot run here; None when it can."""
    if shutil.which("node") is None:
        return "node is not on PATH"
    if ENVIRONMENT_VARIABLE not in os.environ:
        return (
            f"{ENVIRONMENT_VARIABLE} does not name a directory with "
            f"node_modules/kinesis-local (npm install kinesis-local@{PACKAGE_VERSION})"
        )
    if not _package().is_dir():
        return f"{_package()} is not there"
    return None


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run the emulator and give its endpoint URL."""
    preload = directory / "preload.js"
    preload.write_text(_PRELOAD)
    plain, tls = free_port(), free_port()
    environment = {
        **os.environ,
        "KINESIS_MOCK_PLAIN_PORT": str(plain),
        "KINESIS_MOCK_TLS_PORT": str(tls),
        "KINESIS_MOCK_CERT_PATH": str(_package() / "server.json"),
        "SHARD_LIMIT": "10000",
        "LOG_LEVEL": "ERROR",
        **{f"{name}_DURATION": "20ms" for name in _STATE_SECONDS},
    }
    log = directory / "kinesis-local.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["node", "-r", str(preload), str(_package() / "main.js")],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
        )
    try:
        wait_until_ready(process, plain, "/healthcheck", log)
        yield f"http://127.0.0.1:{plain}"
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _package() -> Path:
    return Path(os.environ[ENVIRONMENT_VARIABLE]) / "node_modules" / "kinesis-local"
