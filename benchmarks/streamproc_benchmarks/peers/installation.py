"""Peers on demand: each in an environment of its own in the user's cache, never in the project's.

An environment is complete when its marker says so; what an interrupted installation left is made
anew. Whatever goes wrong is a reason not to run the peer, and no reason to end the benchmark.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from streamproc.errors import StreamprocError

__all__ = ["PEERS", "Installer", "PeerName", "Prepared", "Unavailable", "run_command"]

PeerName = Literal["async-kinesis", "kcl"]
PEERS: Final[tuple[PeerName, ...]] = get_args(PeerName)

_MARKER: Final = "complete"
_HERE: Final = Path(__file__).parent
_SHOWN: Final = 400
_ADDRESS: Final = re.compile(r"\w+://\S+")


class Unavailable(StreamprocError):
    """A peer cannot run here; the message is the reason."""


class Requirements(NamedTuple):
    """What an environment holds.

    `alone` leaves out what the packages depend on; `mb` is about what is downloaded.
    """

    packages: tuple[str, ...]
    mb: int
    alone: bool = False


_ASYNC_KINESIS: Final = Requirements(("async-kinesis==3.0.1", "ujson>=5.10", "uvloop>=0.21"), 25)
# Of the wheel only the jars are wanted: KCL and all that it needs.
_KCL: Final = Requirements(("kclpy-ext==3.1.3.post4",), 30, alone=True)
_DYNAMODB: Final = Requirements(("ministack==1.5.33",), 20)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that can be run.

    Attributes:
        command: what starts it, up to the arguments of a run.
        described: its versions, in words.
        dynamodb: the program of the DynamoDB emulator that it keeps its leases in, if it does.
    """

    peer: PeerName
    command: list[str]
    described: str
    dynamodb: str | None = None


class Finished(NamedTuple):
    """How a program ended, and what it said on both of its outputs."""

    code: int
    output: str


Run = Callable[[Sequence[str]], Awaitable[Finished]]


async def run_command(command: Sequence[str]) -> Finished:
    """Run a program to its end, which is at once when this is cancelled.

    Raises:
        OSError: it could not be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert process.returncode is not None, "communicate waits for the end"
    return Finished(process.returncode, output.decode(errors="replace"))


class Installer:
    """Finds peers in the cache and installs what is missing.

    Args:
        say: told, before anything is downloaded, what and where to.
        cache: the directory of all peers; the user's cache by default.
        run: runs a program.
        which: finds a program, as `shutil.which` does.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        cache: Path | None = None,
        run: Run = run_command,
        which: Callable[[str], str | None] = shutil.which,
    ) -> None:
        self._say = say
        self._cache = cache or _user_cache()
        self._run = run
        self._which = which

    async def prepare(self, peer: PeerName) -> Prepared:
        """Install a peer unless it is there.

        Raises:
            Unavailable: it cannot be had; says why.
        """
        try:
            return await (self._async_kinesis() if peer == "async-kinesis" else self._kcl())
        except OSError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    async def _async_kinesis(self) -> Prepared:
        environment = await self._environment("async-kinesis", _ASYNC_KINESIS)
        return Prepared(
            peer="async-kinesis",
            command=[str(_program(environment, "python")), str(_HERE / "async_kinesis_peer.py")],
            described=_ASYNC_KINESIS.packages[0].replace("==", " "),
        )

    async def _kcl(self) -> Prepared:
        java, javac = self._java("java"), self._java("javac")
        environment = await self._environment("kclpy-ext", _KCL)
        dynamodb = await self._environment("ministack", _DYNAMODB)
        jars = next(environment.glob("[Ll]ib/**/amazon_kclpy/jars"), None)
        if jars is None:
            raise Unavailable(f"{environment} holds no jars of KCL; remove it and run again")
        classes = await self._compiled(javac, jars, environment)
        version = (await self._run([java, "-version"])).output.partition("\n")[0]
        return Prepared(
            peer="kcl",
            # One core is all it is given: the serial collector works without helpers there. The
            # heap has room for what KCL reads ahead of each shard, so that little is copied.
            command=[
                java,
                "-Xms2g",
                "-Xmx2g",
                "-Xmn1200m",
                "-XX:+UseSerialGC",
                f"-Dlogback.configurationFile={_HERE / 'KclPeer.logging.xml'}",
                "-cp",
                os.pathsep.join((f"{jars}{os.sep}*", str(classes))),
                "KclPeer",
            ],
            described=f"KCL of {_KCL.packages[0].replace('==', ' ')}, {version}",
            dynamodb=str(_program(dynamodb, "ministack")),
        )

    def _java(self, program: str) -> str:
        found = self._which(program)
        if found is None:
            raise Unavailable(f"{program} is not on PATH; KCL takes a JDK, 17 or later")
        return found

    async def _compiled(self, javac: str, jars: Path, environment: Path) -> Path:
        """Compile the record processor, once for each version of its source."""
        source = _HERE / "KclPeer.java"
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
        classes = environment / f"classes-{digest}"
        if classes.exists():
            return classes
        fresh = environment / "classes-unfinished"
        shutil.rmtree(fresh, ignore_errors=True)
        command = [javac, "-cp", f"{jars}{os.sep}*", "-d", str(fresh), str(source)]
        await self._must("javac", command)
        fresh.rename(classes)
        return classes

    async def _environment(self, name: str, wanted: Requirements) -> Path:
        """Return an environment that holds what is wanted."""
        python = f"py{sys.version_info.major}.{sys.version_info.minor}"
        directory = self._cache / f"{name}-{python}"
        marker = directory / _MARKER
        content = "\n".join(wanted.packages)
        if marker.exists() and marker.read_text() == content:
            return directory
        self._say(
            f"installing {', '.join(wanted.packages)} (a download of some {wanted.mb} MB) "
            f"into {directory}"
        )
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        options = ["--no-deps"] if wanted.alone else []
        uv = self._which("uv")
        if uv is not None:
            make = [uv, "venv", "--quiet", "--python", sys.executable, str(directory)]
            install = [uv, "pip", "install", "--quiet", "--python"]
            install += [str(_program(directory, "python"))]
        else:
            make = [sys.executable, "-m", "venv", str(directory)]
            install = [str(_program(directory, "python")), "-m", "pip", "install", "--quiet"]
        await self._must("making its environment", make)
        what = f"installing {', '.join(wanted.packages)}"
        await self._must(what, [*install, *options, *wanted.packages])
        marker.write_text(content)
        return directory

    async def _must(self, what: str, command: Sequence[str]) -> None:
        """Run a program that has to succeed.

        Raises:
            Unavailable: it did not; with the end of what it said.
        """
        finished = await self._run(command)
        if finished.code:
            # Addresses of package indexes may hold credentials, and reports are passed on.
            said = _ADDRESS.sub("<address>", " ".join(finished.output.split()))
            raise Unavailable(f"{what} failed with code {finished.code}: {said[-_SHOWN:]}")


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "streamproc" / "peers"


def _program(environment: Path, name: str) -> Path:
    """Return the path of a program in an environment."""
    if sys.platform == "win32":
        return environment / "Scripts" / f"{name}.exe"
    return environment / "bin" / name
