"""The faults that other tests rely on are the faults they ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from streamproc.redis_client import TimedRedis, connect_redis
from streamproc.state.redis_store import RedisStateStore
from tests.faults.link import Link
from tests.faults.proxy import CutAfter, CutBefore, Delay, FaultProxy, Late
from tests.faults.resp import read_message


@pytest.fixture
async def direct(redis_url: str) -> AsyncIterator[TimedRedis]:
    async with connect_redis(redis_url, 5.0) as client:
        yield client


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as made:
        yield made


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[TimedRedis]:
    async with connect_redis(proxy.url, 5.0) as made:
        yield made


async def test_what_is_cut_before_the_server_is_not_executed(
    proxy: FaultProxy, client: TimedRedis, direct: TimedRedis
) -> None:
    proxy.on("incrby", CutBefore())
    with pytest.raises(RedisConnectionError):
        await client.incr("n")
    assert await direct.get("n") is None
    assert await client.incr("n") == 1
    assert (proxy.seen["incrby"], proxy.broken["incrby"]) == (2, 1)


async def test_what_is_cut_after_the_server_is_executed(
    proxy: FaultProxy, client: TimedRedis, direct: TimedRedis
) -> None:
    proxy.on("incrby", CutAfter(), times=2)
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await client.incr("n")
    assert await direct.get("n") == b"2"


async def test_a_late_request_arrives_after_its_client_has_gone(
    proxy: FaultProxy, client: TimedRedis, direct: TimedRedis
) -> None:
    late = Late()
    proxy.on("set", late)
    with pytest.raises(RedisConnectionError):
        await client.set("k", "late")
    await client.set("k", "later")
    assert await direct.get("k") == b"later"
    late.released.set()
    async with asyncio.timeout(5):
        await late.executed.wait()
    assert await direct.get("k") == b"late"


async def test_a_delayed_request_is_executed(proxy: FaultProxy, client: TimedRedis) -> None:
    proxy.on("incrby", Delay(0.05))
    began = asyncio.get_running_loop().time()
    assert await client.incr("n") == 1
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_scripts_are_known_by_name(proxy: FaultProxy, direct: TimedRedis) -> None:
    store = RedisStateStore(connect_redis(proxy.url, 5.0), "g", 60.0)
    await direct.script_flush()
    await store.adopt("stream/shard", 1, None)  # unknown to the server: sent in full the next time
    await store.adopt("stream/shard", 1, None)
    assert proxy.seen["adopt"] == 3
    assert proxy.seen.keys() & {"evalsha", "eval"} == set()
    await store.aclose()


async def test_a_link_can_be_held_cut_and_moved(redis_url: str, direct: TimedRedis) -> None:
    port = direct.connection_pool.connection_kwargs["port"]
    async with Link(port) as link, connect_redis(link.url, 0.2) as client:
        assert await client.ping()
        link.hold()
        with pytest.raises(TimeoutError):
            await client.ping()
        link.heal()
        assert await client.ping()
        await link.cut()
        with pytest.raises(RedisConnectionError):
            await client.ping()
        link.heal()
        assert await client.ping()
        await link.move(1)
        with pytest.raises(RedisConnectionError):
            await client.ping()


@pytest.mark.parametrize(
    "message",
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b"$5\r\nab\r\nc\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n*2\r\n:1\r\n$0\r\n\r\n_\r\n",
        b"%1\r\n+a\r\n*1\r\n,1.5\r\n",
    ],
)
async def test_a_message_is_read_to_its_end(message: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(message + b"+next\r\n")
    assert await read_message(reader) == message
