"""Scores of the test period, obtained through the stream: Kinesis, a worker, Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from streamproc import StreamprocError
from streamproc.testing import EmbeddedRedis, LocalKinesis
from streamproc_fraud.evaluation.protocol import Array, Weeks
from streamproc_fraud.world.publish import publish, records_of
from streamproc_fraud.world.simulator import DAY, SIMULATION_START, Transactions

__all__ = ["EvaluationError", "Streamed", "score_through_stream"]

_GROUP: Final = "evaluate"
_STREAM: Final = "payments"
_HISTORY_DAYS: Final = 38
"""What the longest window looks back on, 30 days that end 7 days ago, and a day more."""

_LOOK_EVERY_S: Final = 0.2
_STALLED_S: Final = 120.0
_PAGE: Final = 5_000
# Every payment of the test period is told of, with its score.
_RULES: Final = """\
name = "evaluate"

[constants]
from_time = {from_time}

[model]
use = "{model}"

[[rules]]
id = "every-score"
stage = "score"
when = "time >= from_time and score >= 0"
"""
_CONFIG: Final = """\
group = "{group}"

[stream]
name = "{stream}"
region = "us-east-1"
endpoint_url = "{kinesis}"

[redis]
url = "{redis}"

[http]
socket = "{socket}"

[read]
poll_interval = 0.2

[processors.fraud]
rules = {rules}
"""


class EvaluationError(StreamprocError):
    """The evaluation could not be carried through."""


class Streamed(msgspec.Struct, frozen=True):
    """What came out of the stream.

    Attributes:
        scores: by row of the transactions; NaN where none was asked for.
        records: how many went through, payments and labels.
        seconds: from the worker's first record to its last.
        cpu_seconds: of the worker's process.
    """

    scores: Array
    records: int
    seconds: float
    cpu_seconds: float


async def score_through_stream(
    transactions: Transactions,
    weeks: Weeks,
    *,
    shards: int = 1,
    duplicates: float = 0.0,
    settings: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Streamed:
    """Put the test period and its history onto a stream, and have a worker score it.

    An embedded Kinesis and Redis, and `streamproc run` in a process of its own. All that is read
    afterwards are the alerts in the outbox.

    Args:
        transactions: the world from its first day on.
        weeks: the periods.
        shards: of the stream; cards of several shards see each other's terminals a little late.
        duplicates: share of records that come again under another sequence number.
        settings: further lines for the worker's ``[processors.fraud]``.
        progress: told what goes on.

    Raises:
        EvaluationError: the worker ends or does not get on, or a payment has no score.
    """
    first_day = max(0, weeks.test_start - _HISTORY_DAYS)
    chosen = transactions.between(first_day, weeks.end)
    first_number = int(np.searchsorted(transactions.t, first_day * DAY))
    records = records_of(chosen, first_number=first_number, duplicates=duplicates)
    with tempfile.TemporaryDirectory(prefix="streamproc-evaluate-") as made:
        directory = Path(made)
        async with LocalKinesis() as kinesis, EmbeddedRedis() as redis:
            kinesis.core.call("CreateStream", StreamName=_STREAM, ShardCount=shards)
            config = _write_config(directory, kinesis.endpoint_url, redis.url, weeks, settings)
            async with _worker(config, directory) as worker, _client(redis.url) as client:
                async with _kinesis(kinesis.endpoint_url) as put:
                    count = await publish(
                        put,
                        _STREAM,
                        records,
                        progress=lambda n: progress(f"published {n:,} records"),
                    )
                progress(f"published {count:,} records")
                seconds, cpu = await _until_done(worker, directory, count, progress)
                scores = await _scores(client, len(transactions.t))
    expected = np.nonzero(transactions.t >= weeks.test_start * DAY)[0]
    expected = expected[transactions.t[expected] < weeks.end * DAY]
    missing = int(np.isnan(scores[expected]).sum())
    if missing:
        raise EvaluationError(f"{missing:,} payments of the test period have no score")
    return Streamed(scores, count, seconds, cpu)


def _write_config(
    directory: Path, kinesis: str, redis_url: str, weeks: Weeks, settings: str
) -> Path:
    rules = directory / "rules.toml"
    from_time = int(SIMULATION_START.timestamp()) + weeks.test_start * DAY
    rules.write_text(_RULES.format(from_time=from_time, model="scorecard"))
    config = directory / "streamproc.toml"
    text = _CONFIG.format(
        group=_GROUP,
        stream=_STREAM,
        kinesis=kinesis,
        redis=redis_url,
        socket=directory / "http",
        rules=msgspec.json.encode(str(rules)).decode(),
    )
    config.write_text(f"{text}{settings}\n")
    return config


@contextlib.asynccontextmanager
async def _worker(config: Path, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    # Credentials that any local endpoint takes; never this host's own.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (directory / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamproc.cli.main", "run", "--config", str(config)),
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _until_done(
    worker: asyncio.subprocess.Process,
    directory: Path,
    count: int,
    progress: Callable[[str], None],
) -> tuple[float, float]:
    """Wait until the worker has committed `count` records; return seconds and CPU seconds."""
    started, done, moved = time.monotonic(), 0, time.monotonic()
    while done < count:
        await asyncio.sleep(_LOOK_EVERY_S)
        if worker.returncode is not None or time.monotonic() > moved + _STALLED_S:
            log = (directory / "worker.log").read_text(errors="replace")[-2_000:]
            raise EvaluationError(f"the worker committed {done:,} of {count:,} records:\n{log}")
        seen = await _committed(directory / "http")
        if seen > done:
            done, moved = seen, time.monotonic()
            progress(f"scored {done:,} of {count:,} records")
    return time.monotonic() - started, _cpu_seconds(worker.pid)


async def _committed(socket: Path) -> int:
    """Return the records that the worker has committed, by its status; 0 before it answers."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
            session.get("http://worker/status") as answer,
        ):
            status = await answer.json()
    except (aiohttp.ClientError, OSError):
        return 0
    parts = [status["departed"], *[shard["statistics"] for shard in status["shards"]]]
    return sum(part["records"] for part in parts)


async def _scores(client: Any, rows: int) -> Array:
    scores = np.full(rows, np.nan)
    keys = [key async for key in client.scan_iter(match=f"sp:{{{_GROUP}*}}:outbox")]
    for key in keys:
        start = "-"
        while page := await client.xrange(key, start, "+", count=_PAGE):
            for _, fields in page:
                alert = msgspec.json.decode(fields[b"data"])["data"]
                row = int(alert["payment_id"].removeprefix("tx-"))
                if not np.isnan(scores[row]):
                    raise EvaluationError(f"payment {alert['payment_id']} was told of twice")
                scores[row] = alert["score"]
            start = f"({page[-1][0].decode()}"
    return scores


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[Any]:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def _kinesis(endpoint_url: str) -> AsyncIterator[Any]:
    from aiobotocore.session import AioSession

    async with AioSession().create_client(
        "kinesis",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    ) as client:
        yield client


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, by Linux's own account; NaN elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
