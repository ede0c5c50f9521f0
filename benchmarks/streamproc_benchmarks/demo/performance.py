"""Sets a run up and clears it away, whatever happens in between."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from streamproc.config import StreamConfig
from streamproc.errors import ConfigError, StreamprocError
from streamproc.kinesis.client import open_kinesis
from streamproc_benchmarks.demo.fleet import Fleet
from streamproc_benchmarks.demo.monitor import Monitor
from streamproc_benchmarks.demo.observe import GroupReader
from streamproc_benchmarks.demo.play import Play
from streamproc_benchmarks.demo.publisher import Publisher
from streamproc_benchmarks.demo.report import print_report
from streamproc_benchmarks.demo.screen import LiveScreen, PlainScreen
from streamproc_benchmarks.demo.servers import (
    Endpoints,
    borrowed_redis,
    connect,
    isolate_environment,
    start_servers,
)
from streamproc_benchmarks.demo.settings import GROUP, STREAM, Options
from streamproc_benchmarks.demo.workload import Workload
from streamproc_benchmarks.sockets import socket_directory

__all__ = ["perform"]


async def perform(options: Options, *, plain: bool) -> int:
    """Run the demonstration; return the exit code.

    0 when everything was verified, 1 when not or when it could not be carried through, 2 when the
    options do not serve, 128 and the signal's number after a signal.
    """
    isolate_environment()
    console = Console()
    directory = _directory()
    fleet = Fleet(directory)
    signals = _Signals(fleet)
    code = 1
    try:
        code = await _perform(options, plain, console, directory, fleet, signals)
    except asyncio.CancelledError:
        if signals.first is None:
            raise
        code = 128 + signals.first
        console.print("interrupted; the servers and workers are ended", highlight=False)
    except StreamprocError as error:
        code = 2 if isinstance(error, ConfigError) else 1
        print(f"streamproc demo: {error}", file=sys.stderr)
    finally:
        if code == 1 and any(directory.iterdir()):
            print(f"the logs are left in {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    return code


async def _perform(
    options: Options,
    plain: bool,
    console: Console,
    directory: Path,
    fleet: Fleet,
    signals: _Signals,
) -> int:
    started = time.monotonic()
    workload = await asyncio.to_thread(Workload, options.seed, options.size)
    async with AsyncExitStack() as stack:
        if options.redis_url is not None:
            await stack.enter_async_context(borrowed_redis(options.redis_url, keep=options.keep))
        await stack.enter_async_context(fleet)
        endpoints = await start_servers(fleet, options)
        client = await stack.enter_async_context(connect(endpoints.redis))
        stream = StreamConfig(name=STREAM, region="us-east-1", endpoint_url=endpoints.kinesis)
        kinesis = await stack.enter_async_context(open_kinesis(stream))
        group = GroupReader(client, GROUP, STREAM)
        publisher = Publisher(kinesis)
        with (
            PlainScreen(console)
            if plain or not console.is_terminal
            else LiveScreen(console) as screen
        ):
            monitor = Monitor(group, publisher, screen, started)
            monitor.say(f"embedded Kinesis at {endpoints.kinesis}, {options.shards} shards")
            play = Play(
                options, fleet, endpoints, kinesis, group, monitor, publisher, directory, workload
            )
            report = await fleet.run(play.run(), monitor.run())
        print_report(console, report, time.monotonic() - started)
        if options.keep:
            _tell_how_to_look(console, endpoints)
            await fleet.run(signals.wait())
    return 0 if report.holds else 1


class _Signals:
    """SIGINT and SIGTERM: the first clears up, a second one does not wait for that.

    Attributes:
        first: the number of the one that cut the run off.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.first: int | None = None
        self._fleet = fleet
        self._main = asyncio.current_task()
        self._awaited: asyncio.Event | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    async def wait(self) -> None:
        """Return at the next signal instead of being cut off by it."""
        self._awaited = asyncio.Event()
        await self._awaited.wait()

    def _on_signal(self, number: int) -> None:
        if self._awaited is not None and not self._awaited.is_set():
            self._awaited.set()
        elif self._awaited is not None or self.first is not None:
            self._fleet.kill_all()
        else:
            self.first = number
            if self._main is not None:
                self._main.cancel()


def _tell_how_to_look(console: Console, endpoints: Endpoints) -> None:
    group = f"sp:{{{GROUP}:0}}"
    lines = [
        "",
        "The servers stay up until Ctrl-C.",
        f"  Kinesis  {endpoints.kinesis}",
        f"  Redis    {endpoints.redis}",
        "",
        f"  redis-cli -u {endpoints.redis} hget '{group}:s:inventory:SKU-00003|WH-EU-1' d",
        f"  redis-cli -u {endpoints.redis} hget '{group}:s:fraud:card-0' d",
        f"  redis-cli -u {endpoints.redis} xrange '{group}:outbox' - + COUNT 3",
        f"  redis-cli -u {endpoints.redis} xrange '{group}:dlq' - + COUNT 3",
        "",
        "  AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x aws --region us-east-1 \\",
        f"    --endpoint-url {endpoints.kinesis} kinesis list-shards --stream-name {STREAM}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _directory() -> Path:
    """Make a directory for logs and sockets."""
    return Path(tempfile.mkdtemp(prefix="streamproc-demo-", dir=socket_directory()))
