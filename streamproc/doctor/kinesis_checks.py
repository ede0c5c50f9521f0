"""Makes the Kinesis calls that a worker makes, and judges what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from streamproc.config import Config
from streamproc.doctor.clock import judge_clock
from streamproc.doctor.finding import Finding
from streamproc.errors import StreamError
from streamproc.kinesis.api import KinesisApi, StreamSummary
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.position import TRIM_HORIZON

__all__ = ["check_endpoint_clock", "check_kinesis", "judge_retention", "judge_status"]

# Signatures are refused beyond five minutes.
_FAIL_SKEW_S: Final = 240.0
_DATE_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


async def check_kinesis(api: KinesisApi, config: Config) -> AsyncIterator[Finding]:
    """Yield what each call comes to; later ones need what earlier ones answer."""
    summary, finding = await _call("kinesis:DescribeStreamSummary", api.describe_stream)
    yield finding
    if isinstance(summary, StreamSummary):
        yield judge_status(summary)
        yield judge_retention(summary, config.dedupe.ttl)
    shards, finding = await _call("kinesis:ListShards", api.list_shards)
    yield finding
    shard = _any_open(shards or ())
    if shard is None:
        return
    iterator, finding = await _call(
        "kinesis:GetShardIterator", lambda: api.shard_iterator(shard.shard_id, TRIM_HORIZON)
    )
    yield finding
    if iterator is not None:
        _, finding = await _call("kinesis:GetRecords", lambda: api.get_records(iterator, 1))
        yield finding


async def check_endpoint_clock(url: str, now: Callable[[], float]) -> Finding:
    """Compare the endpoint's Date header with this host's clock; any answer has one."""
    check = "kinesis clock"
    try:
        async with (
            aiohttp.ClientSession(timeout=_DATE_TIMEOUT) as session,
            session.get(url) as answer,
        ):
            date = answer.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError) as error:
        return Finding(check, "warn", f"{url} does not tell the time ({type(error).__name__})")
    if date is None:
        return Finding(check, "ok", f"{url} sends no Date header, as a local endpoint may")
    # The header has whole seconds: it stands for the middle of its second.
    lead = parsedate_to_datetime(date).timestamp() + 0.5 - now()
    return judge_clock(check, "Kinesis", lead, _FAIL_SKEW_S)


def judge_status(summary: StreamSummary) -> Finding:
    """Judge whether a stream can be read."""
    text = f"{summary.name} is {summary.status}, with {summary.open_shard_count} open shards"
    if summary.status in ("ACTIVE", "UPDATING"):
        return Finding("stream status", "ok", text)
    return Finding("stream status", "fail", f"{text}; wait until it is ACTIVE, or create it")


def judge_retention(summary: StreamSummary, dedupe_ttl: float) -> Finding:
    """Judge whether ids are remembered for as long as records can be read again."""
    needed = summary.retention_hours * 3600
    kept = f"{summary.name} keeps records for {summary.retention_hours} h, dedupe.ttl is "
    if dedupe_ttl >= needed:
        return Finding("stream retention", "ok", f"{kept}{dedupe_ttl / 3600:g} h")
    return Finding(
        "stream retention",
        "warn",
        f"{kept}{dedupe_ttl / 3600:g} h: what is read again after that takes effect twice; set "
        f"dedupe.ttl to {needed} or more",
    )


def _any_open(shards: Sequence[ShardInfo]) -> ShardInfo | None:
    return next((shard for shard in shards if shard.is_open), None)


async def _call(action: str, call: Callable[[], Awaitable[Any]]) -> tuple[Any, Finding]:
    try:
        answer = await call()
    except (KinesisError, StreamError) as error:
        return None, Finding(action, "fail", f"{error}; is {action} allowed to this role?")
    return answer, Finding(action, "ok", "answered")
