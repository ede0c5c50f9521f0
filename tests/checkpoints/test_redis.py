"""The Redis store's own ground: foreign fields, lost scripts, servers that are away."""

from __future__ import annotations

import socket

import pytest
from redis.asyncio import Redis

from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore, renewed
from streamproc.position import TRIM_HORIZON
from streamproc.testing import EmbeddedRedis
from streamproc_checkpoints.redis import open_store

KEY = "sp:{g}:leases"
LEASE = Lease(key="a", owner="me", counter=1, checkpoint=TRIM_HORIZON)


async def test_leases_are_in_one_hash_as_json(redis_url: str) -> None:
    store = await open_store("g", {"url": redis_url})
    await store.create(LEASE)
    async with Redis.from_url(redis_url) as client:
        assert await client.hgetall(KEY) == {
            b"a": b'{"key":"a","owner":"me","counter":1,'
            b'"checkpoint":{"sequence":"TRIM_HORIZON","sub":0,"timestamp":null}}'
        }
    await store.aclose()


@pytest.mark.parametrize(
    "value", ["nonsense", "[]", "7", "null", '{"owner": "x"}', '{"counter": "x"}']
)
async def test_a_field_that_is_no_lease_is_passed_over(
    redis_url: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """KCL row 12: the other leases still load, and nothing writes to what is not understood."""
    async with Redis.from_url(redis_url) as client:
        await client.hset(KEY, "bad", value)
        store = await open_store("g", {"url": redis_url})
        await store.create(LEASE)
        assert await store.list() == [LEASE]
        assert "field bad of sp:{g}:leases is no lease" in caplog.text
        bad = Lease(key="bad", owner="me", counter=1, checkpoint=TRIM_HORIZON)
        assert await store.replace(bad, renewed(bad)) is None
        assert not await store.delete(bad)
        assert await client.hget(KEY, "bad") == value.encode()
        await store.aclose()


async def test_a_lease_that_was_listed_and_then_broken_is_passed_over(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        store = await open_store("g", {"url": redis_url})
        await store.create(LEASE)
        assert await store.list() == [LEASE]
        await client.hset(KEY, LEASE.key, "nonsense")
        assert await store.list() == []
        await store.aclose()


async def test_scripts_that_the_server_forgot_are_sent_again(redis_url: str) -> None:
    store = await open_store("g", {"url": redis_url})
    await store.create(LEASE)
    await store.replace(LEASE, renewed(LEASE))
    async with Redis.from_url(redis_url) as client:
        await client.script_flush()
    assert await store.replace(renewed(LEASE), LEASE) == LEASE
    await store.aclose()


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:  # Bound and not listening: nobody else can answer here.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(LeaseStoreError, match=rf"127\.0\.0\.1:{port}.*leases\.options\.url"):
            await open_store("g", {"url": f"redis://user:secret@127.0.0.1:{port}/0"})


async def test_messages_do_not_tell_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(LeaseStoreError) as error:
            await open_store("g", {"url": f"redis://:secret@127.0.0.1:{taken.getsockname()[1]}"})
    assert "secret" not in str(error.value)


async def test_a_server_that_hangs_is_given_up(
    embedded_redis: EmbeddedRedis, redis_url: str
) -> None:
    store: LeaseStore = await open_store("g", {"url": redis_url, "timeout": 0.05})
    embedded_redis.pause()
    try:
        with pytest.raises(LeaseStoreError, match="Timeout"):
            await store.list()
    finally:
        embedded_redis.resume()
    assert await store.list() == []
    await store.aclose()


async def test_a_server_that_refuses_says_why(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.set(KEY, "a string")
    store = await open_store("g", {"url": redis_url})
    for answer in (store.list(), store.create(LEASE), store.replace(LEASE, renewed(LEASE))):
        with pytest.raises(LeaseStoreError, match="WRONGTYPE"):
            await answer
    await store.aclose()


async def test_an_address_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"leases\.options\.url"):
        await open_store("g", {"url": "http://localhost"})
