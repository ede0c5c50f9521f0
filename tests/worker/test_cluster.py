"""A group spread over the nodes of a real Redis Cluster, worker and all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import redis.asyncio

from streamproc.errors import ConfigError
from streamproc.position import Position
from streamproc.processor import key_text
from streamproc.redis_client import connect_redis
from streamproc.state.keys import Keys, partition_of_key
from streamproc.testing import EmbeddedCluster, LocalKinesis
from tests.sinks.making import FakeSink
from tests.worker.group import Group, entry
from tests.worker.ledger import Ledger

PARTITIONS = 6
ACCOUNTS = [f"account-{n}" for n in range(12)]


class SpreadGroup(Group):
    """A group over several partitions of a cluster."""

    def __init__(self, kinesis: LocalKinesis, url: str, shards: int) -> None:
        super().__init__(kinesis, url, shards)
        self.defaults |= {"redis.partitions": PARTITIONS}
        self.client = connect_redis(url, 5.0)
        self.keys = [Keys(self.name, partition) for partition in range(PARTITIONS)]

    async def __aexit__(self, *error: Any) -> None:
        await super().__aexit__(*error)
        await self.client.aclose()

    async def numbers(self, account: str) -> list[int]:
        text = key_text(account)
        keys = self.keys[partition_of_key(text, PARTITIONS)]
        raw: Any = await self.client.hget(keys.state_prefix("ledger") + text, "d")  # type: ignore[misc]
        return [] if raw is None else json.loads(raw)["numbers"]  # type: ignore[no-any-return]

    async def until_booked(self, expected: Mapping[str, int], timeout: float = 30.0) -> None:
        async def booked() -> bool:
            try:
                return all([len(await self.numbers(a)) >= n for a, n in expected.items()])
            except (redis.RedisError, OSError):
                return False  # a cluster that is to fail answers our questions no better

        await self.until(booked, timeout)

    async def booked_ids(self) -> list[str]:
        found = []
        for keys in self.keys:
            for _, fields in await self.client.xrange(keys.outbox):
                found.append(json.loads(fields[b"data"])["data"]["entry_id"])
        return found

    async def positions(self) -> list[dict[str, Position]]:
        """Return each partition's committed position of each shard."""
        found = []
        for keys in self.keys:
            stored: Any = await self.client.hgetall(keys.positions)  # type: ignore[misc]
            found.append(
                {
                    field.decode(): Position.decode(value.decode().partition("|")[2])
                    for field, value in stored.items()
                }
            )
        return found

    async def in_order_and_once(self, count: int) -> None:
        """The end state that every scenario here must reach."""
        for account in ACCOUNTS:
            assert await self.numbers(account) == list(range(count))
        booked = await self.booked_ids()
        assert len(booked) == len(set(booked)) == count * len(ACCOUNTS)


@pytest.fixture
async def spread(
    local_kinesis: LocalKinesis, _session_cluster: EmbeddedCluster
) -> AsyncIterator[SpreadGroup]:
    await _session_cluster.flush()
    async with SpreadGroup(local_kinesis, _session_cluster.url, shards=2) as made:
        yield made


async def test_ids_with_a_key_each_stay_in_their_partitions_slot(spread: SpreadGroup) -> None:
    spread.publish_entries(range(20), ACCOUNTS)
    spread.publish_entries(range(20), ACCOUNTS)
    spread.start(dedupe__layout="keys")
    await spread.until(lambda: spread.counted("records") == 40 * len(ACCOUNTS))
    await spread.in_order_and_once(20)
    assert spread.counted("duplicates") == 20 * len(ACCOUNTS)


async def test_two_workers_over_a_cluster(spread: SpreadGroup) -> None:
    workers = [spread.start(), spread.start()]
    spread.publish_entries(range(100), ACCOUNTS)
    await spread.until_booked(dict.fromkeys(ACCOUNTS, 100))
    await spread.in_order_and_once(100)
    used = {partition_of_key(account, PARTITIONS) for account in ACCOUNTS}
    assert len(used) > 2

    # Left alone, partitions without recent events follow to where the shard is read.
    async def level() -> bool:
        first, *others = await spread.positions()
        return all(each == first for each in others)

    await spread.until(level)
    for worker in workers:
        await spread.stop(worker)
    checkpoints = [
        json.loads(row)["checkpoint"]["sequence"]
        for row in (await spread.client.hgetall(f"sp:{{{spread.name}}}:leases")).values()  # type: ignore[misc]
    ]
    (first, *_) = await spread.positions()
    assert sorted(checkpoints) == sorted(position.sequence for position in first.values())


async def test_no_key_or_id_however_odd_leaves_its_slot(spread: SpreadGroup) -> None:
    odd = [
        "{",
        "}",
        "{}",
        "}{",
        "{a}b",
        "",
        "|",
        "%7C",
        " ",
        "schlüssel",
        "ключ",
        "鍵",
        "\x00",
        "{:0}",
    ]
    spread.start()
    spread.publish(
        (f"pk-{at}", entry(number, account, f"{account}{{{number}}}"))
        for number in range(5)
        for at, account in enumerate(odd)
    )
    await spread.until(lambda: spread.counted("records") == 5 * len(odd))
    assert spread.counted("processed") == 5 * len(odd)
    for account in odd:
        assert await spread.numbers(account) == list(range(5))


async def test_a_worker_killed_between_two_partitions_commits(spread: SpreadGroup) -> None:
    spread.publish_entries(range(10), ACCOUNTS)
    doomed = spread.start(batch__records=50)
    await spread.until_booked(dict.fromkeys(ACCOUNTS, 10))
    at = partition_of_key(ACCOUNTS[0], PARTITIONS)
    stuck = asyncio.Event()

    async def hang(_commit: Any) -> Any:
        stuck.set()
        await asyncio.Event().wait()

    doomed._stores[at].commit = hang  # type: ignore[method-assign]
    spread.publish_entries(range(10, 30), ACCOUNTS)
    await asyncio.wait_for(stuck.wait(), 10)
    others = [a for a in ACCOUNTS if partition_of_key(a, PARTITIONS) != at]
    await spread.until_booked(dict.fromkeys(others, 11))
    assert len(await spread.numbers(ACCOUNTS[0])) == 10
    await spread.kill(doomed)
    successor = spread.start()
    await spread.until_booked(dict.fromkeys(ACCOUNTS, 30))
    await spread.in_order_and_once(30)
    processed = sum(shard.statistics.processed for shard in successor.status().shards)
    duplicates = sum(shard.statistics.duplicates for shard in successor.status().shards)
    assert duplicates == 0
    assert processed < 20 * len(ACCOUNTS), "what other partitions had committed was skipped"


async def test_a_worker_goes_on_when_a_nodes_replica_takes_over(
    local_kinesis: LocalKinesis,
) -> None:
    async with (
        EmbeddedCluster(primaries=3, replicas=1, node_timeout_ms=500) as cluster,
        SpreadGroup(local_kinesis, cluster.url, shards=2) as group,
    ):
        group.defaults |= {"leases.store": "memory", "redis.timeout": 1.0}
        group.start()
        group.publish_entries(range(20), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
        failed = await cluster.owner(group.keys[0].positions)
        group.publish_entries(range(20, 40), ACCOUNTS)
        await failed.kill()
        group.publish_entries(range(40, 60), ACCOUNTS)

        await group.until_booked(dict.fromkeys(ACCOUNTS, 60), timeout=60)
        await group.in_order_and_once(60)
        assert group.counted("store_errors") > 0


async def test_a_cluster_that_is_down_is_waited_for(local_kinesis: LocalKinesis) -> None:
    async with (
        EmbeddedCluster(primaries=3, node_timeout_ms=300) as cluster,
        SpreadGroup(local_kinesis, cluster.url, shards=2) as group,
    ):
        group.defaults |= {"leases.store": "memory", "redis.timeout": 0.5}
        group.start()
        group.publish_entries(range(10), ACCOUNTS)
        await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
        silent = await cluster.owner(group.keys[0].positions)
        silent.pause()
        other = next(node for node in cluster.nodes if node is not silent)
        async with redis.asyncio.Redis.from_url(other.url) as client:

            async def down() -> bool:
                return (await client.cluster("INFO"))["cluster_state"] == "fail"  # type: ignore[no-untyped-call, no-any-return]

            await group.until(down)
        group.publish_entries(range(10, 20), ACCOUNTS)
        await group.until(lambda: group.counted("store_errors") > 5)
        silent.resume()
        await group.until_booked(dict.fromkeys(ACCOUNTS, 20), timeout=60)
        await group.in_order_and_once(20)


async def test_another_number_of_partitions_is_refused(spread: SpreadGroup) -> None:
    first = spread.start()
    await spread.until(lambda: first.status().ready)
    wrong = spread.start(redis__partitions=PARTITIONS + 1)
    with pytest.raises(ConfigError, match=r"redis\.partitions = 7, but group .* was made with 6"):
        await spread.workers.pop(wrong)


async def test_each_partition_has_a_relay(
    spread: SpreadGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FakeSink()

    async def opener(_options: object) -> FakeSink:
        return sink

    monkeypatch.setattr("streamproc.sinks.sink.find_entry", lambda group, name: opener)
    spread.start(Ledger(), outbox__sink="mine")
    spread.publish_entries(range(10), ACCOUNTS)
    await spread.until(lambda: len(sink.taken) == 10 * len(ACCOUNTS))
    assert len(set(sink.ids)) == 10 * len(ACCOUNTS)
    assert await spread.booked_ids() == []
    (worker,) = spread.workers
    assert worker.status().outbox_delivered == 10 * len(ACCOUNTS)
