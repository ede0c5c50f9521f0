"""DynamoDB servers for tests, all on loopback: moto's always, two better ones where installed.

moto checks a condition and writes in two steps, so writers that race may both win there. `dynalite`
(Node) and `ministack` (Python, in an environment of its own) are atomic; `make dynamodb` installs
them and runs the tests against all three.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

from streamproc.testing.ports import free_port
from tests.http_servers import wait_until_ready

DYNALITE = "STREAMPROC_DYNALITE"
MINISTACK = "STREAMPROC_MINISTACK"
_START_TIMEOUT_S = 30.0


def why_not(server: str) -> str | None:
    """Say why a server cannot run here; None when it can."""
    if server == "dynalite":
        if shutil.which("node") is None:
            return "node is not on PATH"
        if not (_directory(DYNALITE) / "node_modules" / "dynalite").is_dir():
            return f"{DYNALITE} names no directory with node_modules/dynalite; run: make dynamodb"
    if server == "ministack" and not (_directory(MINISTACK) / "bin" / "ministack").exists():
        return f"{MINISTACK} names no environment with ministack; run: make dynamodb"
    return None


@contextmanager
def running(server: str, directory: Path) -> Iterator[str]:
    """Run a server and give its endpoint URL.

    Args:
        server: moto, dynalite or ministack.
        directory: where it may leave its log.
    """
    if server == "moto":
        moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        moto.start()
        host, port = moto.get_host_and_port()
        _warm_up(port)
        try:
            yield f"http://{host}:{port}"
        finally:
            moto.stop()
        return
    port = free_port()
    with _process(*_command(server, port), directory / f"{server}.log", port):
        _warm_up(port)
        yield f"http://127.0.0.1:{port}"


def _command(server: str, port: int) -> tuple[list[str], Mapping[str, str]]:
    if server == "dynalite":
        script = _directory(DYNALITE) / "node_modules" / "dynalite" / "cli.js"
        quick = [f"--{kind}TableMs=0" for kind in ("create", "update", "delete")]
        return ["node", str(script), "--host=127.0.0.1", f"--port={port}", *quick], {}
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "ERROR"}
    return [str(_directory(MINISTACK) / "bin" / "ministack")], settings | {"SERVICES": "dynamodb"}


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], log: Path, port: int
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=log.parent,
        )
    try:
        wait_until_ready(process, port, "/", log)
        yield
    finally:
        process.kill()
        process.wait()


def _warm_up(port: int) -> None:
    """Make the first request, for which a server may load half of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_TIMEOUT_S)
    try:
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.ListTables",
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/"
            "aws4_request, SignedHeaders=host, Signature=0",
        }
        connection.request("POST", "/", "{}", headers)
        connection.getresponse().read()
    finally:
        connection.close()


def _directory(variable: str) -> Path:
    return Path(os.environ.get(variable, "/nonexistent"))
