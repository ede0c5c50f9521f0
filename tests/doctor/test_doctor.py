"""`streamproc doctor` against real servers with the settings that it is there to find."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from streamproc.cli.main import app
from streamproc.doctor.examination import examine
from streamproc.doctor.finding import Finding
from streamproc.doctor.kinesis_checks import check_endpoint_clock
from streamproc.redis_client import connect_redis
from streamproc.settings import load_config
from streamproc.testing import EmbeddedRedis, LocalKinesis
from tests.faults.replicated import ReplicatedRedis


@pytest.fixture
async def stream(local_kinesis: LocalKinesis) -> LocalKinesis:
    local_kinesis.core.call("CreateStream", StreamName="orders", ShardCount=1)
    return local_kinesis


def settings(kinesis: LocalKinesis, redis_url: str, **more: Any) -> dict[str, Any]:
    return {
        "group": "g",
        "stream.name": "orders",
        "stream.region": "us-east-1",
        "stream.endpoint_url": kinesis.endpoint_url,
        "redis.url": redis_url,
        "processors.noop": {},
        **{key.replace("__", "."): value for key, value in more.items()},
    }


async def findings(given: Mapping[str, Any]) -> dict[str, Finding]:
    config = load_config(None, {}, given)
    return {finding.check: finding async for finding in examine(config)}


async def test_a_sound_setting_is_ok(stream: LocalKinesis) -> None:
    async with EmbeddedRedis(appendonly=True) as server:
        found = await findings(settings(stream, server.url))
        async with connect_redis(server.url, 5.0) as client:
            assert await client.keys("*") == [], "looking leaves nothing behind"
    assert {finding.level for finding in found.values()} == {"ok"}, found
    assert {"kinesis:GetRecords", "redis eviction", "redis scripts", "lease store"} <= found.keys()


@pytest.mark.parametrize(
    ("config", "check", "level", "says"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "redis eviction", "fail", "set it to noeviction"),
        ({}, "redis persistence", "warn", "no persistence"),
        ({"save": "60 1"}, "redis persistence", "warn", "dumps only"),
        ({"maxmemory": "1mb"}, "redis memory", "warn", "make room"),
    ],
)
async def test_a_servers_setting_is_found(
    stream: LocalKinesis, config: dict[str, str], check: str, level: str, says: str
) -> None:
    async with EmbeddedRedis(config=config) as server:
        found = await findings(settings(stream, server.url))
    assert found[check].level == level
    assert says in found[check].message


async def test_replicas_are_counted_and_a_replica_itself_is_refused(stream: LocalKinesis) -> None:
    async with ReplicatedRedis() as servers:
        enough = await findings(settings(stream, servers.primary.url, redis__wait_replicas=1))
        lacking = await findings(settings(stream, servers.primary.url, redis__wait_replicas=2))
        replica = await findings(settings(stream, servers.replica.url))
    assert enough["redis replicas"].level == "ok"
    assert lacking["redis replicas"].level == "fail"
    assert "takes no writes" in replica["redis role"].message


async def test_a_user_who_may_not_run_scripts_is_found(
    stream: LocalKinesis, redis_url: str
) -> None:
    async with connect_redis(redis_url, 5.0) as client:
        await client.execute_command(
            "ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-@scripting", "-config"
        )
        try:
            limited = redis_url.replace("redis://", "redis://limited:secret@")
            found = await findings(settings(stream, limited))
        finally:
            await client.execute_command("ACL", "DELUSER", "limited")
    assert found["redis scripts"].level == "fail"
    assert "EVALSHA" in found["redis scripts"].message
    assert "dumps unknown" in found["redis persistence"].message
    assert not any("secret" in finding.message for finding in found.values())


async def test_what_is_away_fails_alone_and_the_rest_is_looked_at(redis_url: str) -> None:
    async with LocalKinesis() as kinesis:
        given = settings(kinesis, "redis://127.0.0.1:1/0", leases__store="memory")
    given |= {"read.timeout": 1.0, "processors.nobody": {}}
    found = await findings(given)
    for check in ("processors", "kinesis:DescribeStreamSummary", "redis"):
        assert found[check].level == "fail", check
    assert found["lease store"].level == "ok"


async def test_a_missing_stream_and_missing_settings_are_found(
    local_kinesis: LocalKinesis, redis_url: str
) -> None:
    missing = await findings(settings(local_kinesis, redis_url))
    assert missing["kinesis:DescribeStreamSummary"].level == "fail"
    unnamed = await findings(settings(local_kinesis, redis_url, group=""))
    assert "group is not set" in unnamed["config"].message


async def test_a_dedupe_ttl_below_the_streams_retention_is_found(
    stream: LocalKinesis, redis_url: str
) -> None:
    found = await findings(settings(stream, redis_url, dedupe__ttl=3600.0))
    assert found["stream retention"].level == "warn"
    assert "86400" in found["stream retention"].message


@pytest.mark.parametrize(
    ("lead", "level"), [(0, "ok"), (-30, "warn"), (30, "warn"), (-600, "fail")]
)
async def test_kinesis_clock_is_read_from_its_answers(lead: int, level: str) -> None:
    async with Endpoint(lead) as url:
        finding = await check_endpoint_clock(url, time.time)
    assert finding.level == level


async def test_an_endpoint_that_does_not_answer_is_no_clock(redis_url: str) -> None:
    finding = await check_endpoint_clock("http://127.0.0.1:1/", time.time)
    assert finding.level == "warn"


class Endpoint:
    """An HTTP endpoint whose clock is ahead; it refuses everything, as Kinesis does a GET."""

    def __init__(self, lead: int) -> None:
        self._lead = lead

    async def __aenter__(self) -> str:
        async def refuse(request: web.BaseRequest) -> web.Response:
            answer = web.Response(status=403)
            answer.headers["Date"] = formatdate(time.time() + self._lead, usegmt=True)
            return answer

        self._runner = web.ServerRunner(web.Server(refuse))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{port}/"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.mark.parametrize(
    ("policy", "code", "word"), [("noeviction", 0, "ok"), ("allkeys-lru", 1, "FAIL")]
)
async def test_the_command_prints_a_line_a_check_and_exits_with_1_where_something_fails(
    stream: LocalKinesis, policy: str, code: int, word: str
) -> None:
    config = {"maxmemory-policy": policy}
    async with EmbeddedRedis(appendonly=True, config=config) as server:
        given = settings(stream, server.url)
        flags = [part for key, value in given.items() for part in ("--set", assigned(key, value))]
        runner = CliRunner()
        shown = await asyncio.to_thread(runner.invoke, app, ["doctor", *flags])
        as_json = await asyncio.to_thread(runner.invoke, app, ["doctor", "--json", *flags])
    assert shown.exit_code == as_json.exit_code == code, shown.output
    (line,) = [line for line in shown.output.splitlines() if "redis eviction" in line]
    assert line.split()[0] == word
    told = {each["check"]: each["level"] for each in json.loads(as_json.output)}
    assert told["redis eviction"] == word.lower()
    assert len(told) == len(shown.output.splitlines())


def assigned(key: str, value: Any) -> str:
    return f"{key}={{}}" if value == {} else f"{key}={json.dumps(value)}"
