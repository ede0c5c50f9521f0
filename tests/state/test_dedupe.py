"""A group's marks lie in one layout; another one is refused, not mixed in."""

from __future__ import annotations

import pytest

from streamproc.errors import ConfigError, StateStoreError
from streamproc.redis_client import connect_redis
from streamproc.state.dedupe import claim_layout

from .stores import SHARD, START, RedisKit, commit, digest, position


async def test_the_first_layout_stays_and_another_is_refused(redis_url: str) -> None:
    client = connect_redis(redis_url, timeout=5.0)
    try:
        await claim_layout(client, "g", "keys")
        await claim_layout(client, "g", "keys")
        with pytest.raises(ConfigError, match=r"dedupe.layout = sets, but group g was made"):
            await claim_layout(client, "g", "sets")
        await client.delete("sp:{g}:dedupe")
        await claim_layout(client, "g", "sets")
    finally:
        await client.aclose()


async def test_a_redis_that_is_away_is_told_as_everywhere() -> None:
    client = connect_redis("redis://127.0.0.1:1/0", timeout=1.0)
    with pytest.raises(StateStoreError, match=r"127\.0\.0\.1:1"):
        await claim_layout(client, "g", "sets")
    await client.aclose()


async def test_ids_are_marked_where_the_layout_says(redis_url: str) -> None:
    for layout, group in (("sets", "a"), ("keys", "b")):
        client = connect_redis(redis_url, timeout=5.0)
        kit = RedisKit(client, group, layout)  # type: ignore[arg-type]
        await kit.store.adopt(SHARD, 1, START)
        bucket = (await kit.store.check([digest(1)], [])).bucket
        await kit.store.commit(commit(START, position(1), bucket=bucket, digests=[digest(1)]))
        found = await client.keys(f"sp:{{{group}:0}}:[si][ed]*")
        if layout == "sets":
            assert found == [f"sp:{{a:0}}:seen:{bucket}".encode()]
            assert await client.smembers(found[0]) == {digest(1)}  # type: ignore[misc]
        else:
            assert found == [b"sp:{b:0}:id:" + digest(1)]
            assert await client.get(found[0]) == b"1"
        await kit.store.aclose()
