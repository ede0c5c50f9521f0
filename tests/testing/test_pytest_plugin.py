"""The fixtures, used as a plugin's author would use them."""

from __future__ import annotations

import subprocess
import sys

import redis

from streamproc.testing import EmbeddedRedis, LocalKinesis


async def test_local_kinesis_is_listening_and_empty(local_kinesis: LocalKinesis) -> None:
    assert local_kinesis.port > 0
    assert local_kinesis.core.call("ListStreams")["StreamNames"] == []
    local_kinesis.core.call("CreateStream", StreamName="left-behind", ShardCount=1)


async def test_local_kinesis_is_fresh_for_each_test(local_kinesis: LocalKinesis) -> None:
    assert local_kinesis.core.call("ListStreams")["StreamNames"] == []


def test_redis_url_is_an_empty_database(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left-behind", "1")


def test_redis_url_is_flushed_between_tests(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


async def test_the_session_server_is_bound_to_no_loop(embedded_redis: EmbeddedRedis) -> None:
    before = embedded_redis.pid
    await embedded_redis.restart()
    assert embedded_redis.pid != before


def test_importing_the_engine_does_not_import_its_test_servers() -> None:
    code = (
        "import sys, streamproc; "
        "print(sorted(m for m in sys.modules if m.startswith('streamproc.testing')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_local_kinesis_does_not_import_pytest() -> None:
    code = "import sys, streamproc.testing as t; t.LocalKinesis; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
