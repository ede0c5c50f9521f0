"""The run itself: open the shop, publish, split a shard, kill a worker, wait, verify."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import StreamprocError
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.observability.status import WorkerStatus
from streamproc.position import Position
from streamproc_benchmarks.demo.board import Board, fetch_status, totals
from streamproc_benchmarks.demo.fleet import DemoError, Fleet, Process, child_environment, within
from streamproc_benchmarks.demo.observe import GroupReader
from streamproc_benchmarks.demo.oracle import expect
from streamproc_benchmarks.demo.publisher import Publisher
from streamproc_benchmarks.demo.report import Report
from streamproc_benchmarks.demo.servers import Endpoints, connect, kinesis_admin
from streamproc_benchmarks.demo.settings import (
    GROUP,
    STREAM,
    Options,
    worker_arguments,
    write_config,
)
from streamproc_benchmarks.demo.verify import Check, Tally, check_counters, verify
from streamproc_benchmarks.demo.view import Screen, View, WorkerRow, shard_name
from streamproc_benchmarks.demo.workload import Workload

__all__ = ["Play"]

_WORKERS: Final = ("worker-1", "worker-2")
_POLL_S: Final = 0.25
_WATCH_S: Final = 0.05
_READY_S: Final = 30.0
_STALL_S: Final = 20.0
_SPLIT_AT: Final = 0.25
_KILL_AT: Final = 0.5
_TAKE_OVER_S: Final = 20.0
_DRAIN_S: Final = 25.0  # the workers' own drain_timeout
