"""The client on a real Redis Cluster: slots that move, nodes that fail, forgotten scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from streamproc.redis_client import TimedRedis, connect_redis
from streamproc.redis_cluster import ClusterRedis, first_key
from streamproc.testing import EmbeddedCluster

KEYS = [f"key-{n}" for n in range(60)]


@pytest.fixture
async def client(embedded_cluster: EmbeddedCluster) -> AsyncIterator[TimedRedis]:
    client = connect_redis(embedded_cluster.url, 5.0)
    yield client
    await client.aclose()


async def test_each_command_goes_to_the_node_of_its_key(
    embedded_cluster: EmbeddedCluster, client: TimedRedis
) -> None:
    for key in KEYS:
        await client.set(key, key)
    assert [await client.get(key) for key in KEYS] == [key.encode() for key in KEYS]
    sizes = []
    for node in embedded_cluster.nodes:
        async with redis.asyncio.Redis.from_url(node.url) as single:
            sizes.append(await single.dbsize())
    assert sum(sizes) == len(KEYS)
    assert all(sizes)


async def test_scripts_run_everywhere_also_after_a_node_forgot_them(
    embedded_cluster: EmbeddedCluster, client: TimedRedis
) -> None:
    script = client.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    for expected in (2, 4):
        for key in KEYS:
            assert await script(keys=[key], args=[2]) == [key.encode(), expected]
        for node in embedded_cluster.nodes:
            async with redis.asyncio.Redis.from_url(node.url) as single:
                await single.script_flush()


async def test_a_slot_that_moved_is_found(
    embedded_cluster: EmbeddedCluster, client: TimedRedis
) -> None:
    slot = key_slot(b"key-1")
    await client.set("key-1", "here")
    source = await embedded_cluster.owner("key-1")
    target = next(node for node in embedded_cluster.nodes if node is not source)
    await embedded_cluster.move_slot(slot, source, target)
    try:
        assert await client.get("key-1") == b"here"
        assert (await client.client_of("key-1")).connection_pool.connection_kwargs["port"] == (  # type: ignore[attr-defined]
            target.port
        )
    finally:
        await embedded_cluster.move_slot(slot, target, source)
    assert await client.get("key-1") == b"here"


async def test_a_slot_on_its_way_is_asked_for_at_both_ends_by_many_calls_at_once(
    embedded_cluster: EmbeddedCluster, client: TimedRedis
) -> None:
    slot = key_slot(b"{tag}")
    source = await embedded_cluster.owner("{tag}")
    target = next(node for node in embedded_cluster.nodes if node is not source)
    keys = [f"{{tag}}{n}" for n in range(50)]
    await asyncio.gather(*[client.set(key, "old") for key in keys[:25]])
    add = client.register_script("return redis.call('APPEND', KEYS[1], ARGV[1])")
    await embedded_cluster.begin_move(slot, source, target)
    # The first half is at the source, the second does not exist: it is the target's to make.
    await asyncio.gather(*[add(keys=[key], args=["!"]) for key in keys])
    await embedded_cluster.move_slot(slot, source, target)
    try:
        assert [await client.get(key) for key in keys] == [b"old!"] * 25 + [b"!"] * 25
    finally:
        await embedded_cluster.move_slot(slot, target, source)


async def test_what_is_about_one_node_is_refused(client: TimedRedis) -> None:
    assert isinstance(client, ClusterRedis)
    await client.ping()
    for call in (client.dbsize(), client.keys("*"), client.scan()):
        with pytest.raises(RedisError, match="about one node of a cluster"):
            await call
    with pytest.raises(NotImplementedError):
        client.pipeline()
    assert len(await client.primaries()) == 3


async def test_a_single_server_behind_the_url_is_used_as_such(redis_url: str) -> None:
    client = connect_redis(redis_url, 5.0)
    assert isinstance(client, ClusterRedis)
    await client.set("a", "1")
    assert await client.keys("*") == [b"a"]
    assert await client.primaries() == [client]
    await client.aclose()


async def test_a_single_server_is_refused_where_a_cluster_must_be(redis_url: str) -> None:
    client = connect_redis(redis_url, 5.0, cluster="on")
    with pytest.raises(ResponseError, match="cluster support disabled"):
        await client.get("a")
    await client.aclose()


async def test_without_cluster_mode_redirections_are_errors(
    embedded_cluster: EmbeddedCluster,
) -> None:
    client = connect_redis(embedded_cluster.url, 5.0, cluster="off")
    with pytest.raises(ResponseError):
        await asyncio.gather(*[client.get(key) for key in KEYS])
    await client.aclose()


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "k"), "k"),
        (("EVALSHA", "x", 2, "k", "l", "a"), "k"),
        (("EVAL", "return 1", 0), None),
        (("XREAD", "COUNT", 1, "STREAMS", "k", "0"), "k"),
        (("XGROUP CREATE", "k", "g", "$"), "k"),
        (("PING",), None),
        (("CLUSTER INFO",), None),
    ],
)
def test_the_first_key_of_a_command_decides(command: tuple[object, ...], key: str | None) -> None:
    assert first_key(command) == key


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_a_failed_nodes_replica_takes_over(how: str) -> None:
    async with EmbeddedCluster(primaries=3, replicas=1, node_timeout_ms=500) as cluster:
        client = connect_redis(cluster.url, 1.0)
        owners = [(key, await cluster.owner(key)) for key in KEYS]
        # Not the one of the URL: this client is to find its way without asking there again.
        key, failed = next((key, node) for key, node in owners if node is not cluster.nodes[0])
        await client.set(key, "kept")
        async with redis.asyncio.Redis.from_url(failed.url) as single:
            assert await single.wait(1, 5_000) == 1
        if how == "killed":
            await failed.kill()
        else:
            failed.pause()
        failures = 0
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await client.get(key) == b"kept"
                    break
                except (RedisError, OSError):
                    failures += 1
                    await asyncio.sleep(0.05)
        assert failures, "it is not repeated behind the caller's back"
        async with asyncio.timeout(2):
            for each in KEYS:
                await client.set(each, "again")
        await client.aclose()
        if how == "silent":
            failed.resume()
