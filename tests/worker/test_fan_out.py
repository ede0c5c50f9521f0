"""A worker whose records are pushed, from the stream to the commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.kinesis.polling import Mode
from streamproc.testing import LocalKinesis
from tests.worker.group import Group

ACCOUNTS = [f"account-{number}" for number in range(6)]


@pytest.fixture
async def group(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Group]:
    """A group on a stream that pushes."""
    async with LocalKinesis(push=True) as kinesis:
        assert kinesis.push is not None
        bundle = tmp_path / "ca.pem"
        bundle.write_bytes(kinesis.push.ca_pem)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        async with Group(kinesis, redis_url, shards=2) as made:
            made.defaults |= {
                "read.mode": "fan-out",
                "read.push_endpoint_url": kinesis.push.endpoint_url,
            }
            yield made


def modes(group: Group) -> set[Mode]:
    return {
        shard.reader.mode
        for worker in group.workers
        for shard in worker.status().shards
        if shard.reader is not None
    }


async def test_pushed_events_take_effect_once_and_in_order_across_a_split(group: Group) -> None:
    group.publish_entries(range(100), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 100))
    assert modes(group) == {Mode.PUSH}
    group.split(group.shard_ids()[0])
    group.publish_entries(range(100, 200), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 200))
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(200))
    assert len(await group.booked_ids()) == 200 * len(ACCOUNTS)


async def test_cut_connections_lose_and_double_nothing(group: Group) -> None:
    worker = group.start()
    await group.until(lambda: modes(group) == {Mode.PUSH})
    assert group.kinesis.push is not None
    for first in range(0, 90, 30):
        group.publish_entries(range(first, first + 30), ACCOUNTS)
        await group.until_booked({ACCOUNTS[0]: first + 1})
        await group.kinesis.push.cut()
    # A subscription is refused for five seconds after the last one: a failure or two, no more.
    await group.until_booked(dict.fromkeys(ACCOUNTS, 90), timeout=60)
    for account in ACCOUNTS:
        assert await group.numbers(account) == list(range(90))
    assert group.counted("duplicates") == 0
    await group.stop(worker)


async def test_a_worker_polls_where_fan_out_is_not_to_be_had(group: Group) -> None:
    assert group.kinesis.push is not None
    await group.kinesis.push.stop()
    group.kinesis.faults.error("RegisterStreamConsumer", code="AccessDeniedException", count=None)
    group.publish_entries(range(20), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    assert Mode.PUSH not in modes(group)


async def test_a_worker_polls_once_subscriptions_keep_failing(group: Group) -> None:
    group.kinesis.faults.error("SubscribeToShard", code="AccessDeniedException", count=None)
    group.publish_entries(range(20), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    assert Mode.PUSH not in modes(group)
