"""The client's bounds: time, cancellation, and what it puts on the wire."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio.connection import Connection

from streamproc.errors import ConfigError
from streamproc.redis_client import connect_redis, redis_address
from streamproc.testing import EmbeddedRedis


async def test_a_silent_server_is_given_up_in_time(embedded_redis: EmbeddedRedis) -> None:
    client = connect_redis(embedded_redis.url, 0.05)
    assert await client.ping()
    embedded_redis.pause()
    try:
        with pytest.raises(TimeoutError):
            await client.get("x")
    finally:
        embedded_redis.resume()
    client.call_timeout = 5.0
    assert await client.get("x") is None, "the late answer of another call is not taken for ours"
    await client.aclose()


async def test_no_cancellation_is_lost_whenever_it_comes(redis_url: str) -> None:
    """Redis's own answer may be there in the same turn of the loop as the cancellation."""
    client = connect_redis(redis_url, 5.0)
    outlived = []

    async def call() -> None:
        while True:
            await client.get("x")

    for turns in range(60):
        task = asyncio.create_task(call())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1)
        if not done:
            outlived.append(turns)
            task.cancel()
    assert outlived == []
    await client.aclose()


@pytest.mark.parametrize(
    "command",
    [("SET", "clé", b"\x00\xff\r\n"), ("SCRIPT LOAD", "return 1"), ("EXPIRE", b"k", 12)],
)
def test_commands_are_packed_as_redis_expects(
    redis_url: str, command: tuple[str | bytes | int, ...]
) -> None:
    ours = connect_redis(redis_url, 1.0).connection_pool.make_connection()
    assert b"".join(ours.pack_command(*command)) == b"".join(Connection().pack_command(*command))


@pytest.mark.parametrize("url", ["http://h:6379", "localhost:6379", "redis://h?db=x"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^redis\.url: "):
        connect_redis(url, 1.0)


def test_an_address_shows_no_credentials() -> None:
    assert redis_address(connect_redis("rediss://user:secret@host:7000/1", 1.0)) == "host:7000"
    assert redis_address(connect_redis("unix:///run/redis.sock", 1.0)) == "/run/redis.sock"
