"""`streamproc run`: one worker, or several processes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streamproc.cli.loop import calm_collector, run_loop
from streamproc.cli.options import ConfigOption, SetOption, config_path, overrides_of
from streamproc.config import Config, require
from streamproc.cores import usable_cores
from streamproc.observability.http import serve
from streamproc.observability.logs import configure_logging
from streamproc.observability.metrics import worker_registry
from streamproc.parent_watch import exit_when_parent_dies
from streamproc.plugins import load_processors
from streamproc.settings import load_config
from streamproc.supervisor import supervise
from streamproc.worker import Worker

__all__ = ["run", "run_worker"]

log = logging.getLogger(__name__)


def run(
    config: ConfigOption = None,
    processes: Annotated[
        str | None,
        typer.Option(
            "--processes", "-p", help="Worker processes, or auto: one a usable core. [default: 1]"
        ),
    ] = None,
    worker_id: Annotated[
        str | None, typer.Option("--worker-id", help="A unique name for this worker.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port of /live, /ready, /metrics and /status.")
    ] = None,
    assignments: SetOption = None,
) -> None:
    """Run workers until SIGTERM or SIGINT; then drain, commit, checkpoint, release and exit 0.

    A second signal exits at once; what was in hand is replayed by whoever takes the shards.
    """
    flags = {
        "worker.processes": int(processes) if processes and processes.isdigit() else processes,
        "worker.id": worker_id,
        "http.port": port,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    overrides = overrides_of(assignments) | given
    settings = load_config(config_path(config), overrides=overrides)
    configure_logging(settings.worker.log_level, settings.worker.log_format)
    settings = _with_processes(settings)
    require(settings)
    # Also with several processes: a mistake shows here, once, not in every child.
    worker = Worker(settings, load_processors(settings.processors))
    if settings.worker.processes != 1:
        paths = [page.path for page in worker.pages()]
        sys.exit(run_loop(supervise(settings, _child_command(config, assignments), paths=paths)))
    run_loop(run_worker(settings, worker))


def _with_processes(settings: Config) -> Config:
    """Settle how many processes ``auto`` is on this host."""
    if settings.worker.processes != "auto":
        return settings
    cores = usable_cores()
    log.info("worker.processes = auto: %d, since %s", cores.count, cores.why)
    worker = msgspec.structs.replace(settings.worker, processes=cores.count)
    return msgspec.structs.replace(settings, worker=worker)


def _child_command(config: Path | None, assignments: list[str] | None) -> list[str]:
    command = [sys.executable, "-m", "streamproc.cli.main", "run"]
    if config is not None:
        command += ["--config", str(config)]
    for assignment in assignments or ():
        command += ["--set", assignment]
    return command


async def run_worker(settings: Config, worker: Worker) -> None:
    """Run a worker, with its HTTP pages, until a signal stops it."""
    loop = asyncio.get_running_loop()
    asked = 0

    def on_signal(number: int) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            log.warning("second signal: exiting at once")
            os._exit(128 + number)
        log.info("%s: draining", signal.Signals(number).name)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    exit_when_parent_dies(settings.worker.drain_timeout)
    calm_collector()
    registry = worker_registry(worker, worker.collectors())
    async with serve(worker, settings.http, registry, worker.pages()):
        await worker.run()
