"""Enhanced fan-out over real HTTP/2 and TLS."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import StreamError
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.kinesis.errors import InvalidArgumentError, NotFoundError, TransientError
from streamproc.kinesis.fanout import FanOutApi, PushedEvent, PushSubscription
from streamproc.kinesis.subscription import _connected
from streamproc.position import LATEST, TRIM_HORIZON, Position
from streamproc.testing import LocalKinesis

FIRST = "shardId-000000000000"


class Time:
    """LocalKinesis's clock, in seconds since the epoch."""

    now = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def kinesis(
    time: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalKinesis]:
    async with LocalKinesis(push=True, clock=time) as serving:
        assert serving.push is not None
        bundle = tmp_path / "ca.pem"
        bundle.write_bytes(serving.push.ca_pem)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        serving.core.call("CreateStream", StreamName="orders", ShardCount=1)
        yield serving


def read_config(kinesis: LocalKinesis) -> ReadConfig:
    assert kinesis.push is not None
    return ReadConfig(push_endpoint_url=kinesis.push.endpoint_url)


@pytest.fixture
async def client(kinesis: LocalKinesis) -> AsyncIterator[KinesisClient]:
    config = StreamConfig(name="orders", endpoint_url=kinesis.endpoint_url)
    async with open_kinesis(config, read_config(kinesis)) as opened:
        yield opened


@pytest.fixture
async def fan_out(client: KinesisClient, kinesis: LocalKinesis) -> FanOutApi:
    return await client.fan_out("group", read_config(kinesis))


def put(kinesis: LocalKinesis, *data: bytes) -> list[str]:
    return [
        kinesis.core.call(
            "PutRecord",
            StreamName="orders",
            PartitionKey="k",
            Data=base64.b64encode(each).decode(),
        )["SequenceNumber"]
        for each in data
    ]


async def event_of(subscription: PushSubscription) -> PushedEvent:
    async with asyncio.timeout(10):
        event = await subscription.next()
    assert event is not None
    return event


async def data_of(subscription: PushSubscription, count: int) -> list[bytes]:
    taken: list[bytes] = []
    while len(taken) < count:
        taken += [record.data for record in (await event_of(subscription)).records]
    return taken


async def follow(subscription: PushSubscription) -> None:
    """Take events until the subscription ends."""
    async with asyncio.timeout(10):
        while await subscription.next() is not None:
            pass


async def test_what_is_there_and_what_comes_is_pushed(
    kinesis: LocalKinesis, fan_out: FanOutApi
) -> None:
    put(kinesis, b"1", b"2")
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    assert await data_of(subscription, 2) == [b"1", b"2"]
    put(kinesis, b"3")
    assert await data_of(subscription, 1) == [b"3"]
    subscription.close()


@pytest.mark.parametrize(("inclusive", "expected"), [(False, [b"2"]), (True, [b"1", b"2"])])
async def test_positions_become_starting_positions(
    kinesis: LocalKinesis, fan_out: FanOutApi, inclusive: bool, expected: list[bytes]
) -> None:
    first, _ = put(kinesis, b"1", b"2")
    subscription = await fan_out.subscribe(FIRST, Position(first), inclusive=inclusive)
    assert await data_of(subscription, len(expected)) == expected
    subscription.close()


async def test_the_continuation_of_an_empty_event_loses_nothing(
    kinesis: LocalKinesis, fan_out: FanOutApi, time: Time
) -> None:
    subscription = await fan_out.subscribe(FIRST, LATEST)
    time.now += 5
    empty = await event_of(subscription)
    assert empty.records == []
    assert empty.continuation is not None
    subscription.close()
    put(kinesis, b"1")
    time.now += 5
    following = await fan_out.subscribe(FIRST, Position(empty.continuation))
    assert await data_of(following, 1) == [b"1"]
    following.close()


async def test_a_subscription_ends_in_good_order_after_five_minutes(
    fan_out: FanOutApi, time: Time
) -> None:
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    time.now += 301
    await follow(subscription)
    subscription.close()


async def test_a_second_subscription_is_refused_for_five_seconds_and_then_takes_over(
    fan_out: FanOutApi, time: Time
) -> None:
    first = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    with pytest.raises(TransientError, match="ResourceInUse"):
        await fan_out.subscribe(FIRST, TRIM_HORIZON)
    time.now += 5
    second = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    with pytest.raises(TransientError, match=r"ResourceInUseException: .* taken over"):
        await follow(first)
    first.close()
    second.close()


async def test_a_split_ends_the_subscription_with_the_children(
    kinesis: LocalKinesis, fan_out: FanOutApi
) -> None:
    put(kinesis, b"1")
    kinesis.core.call(
        "SplitShard", StreamName="orders", ShardToSplit=FIRST, NewStartingHashKey=str(2**127)
    )
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    last = await event_of(subscription)
    assert [record.data for record in last.records] == [b"1"]
    assert last.continuation is None
    assert [child.parent_shards for child in last.child_shards] == [[FIRST], [FIRST]]
    assert await subscription.next() is None
    subscription.close()


async def test_an_event_larger_than_the_window_comes_through(
    kinesis: LocalKinesis, fan_out: FanOutApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamproc.kinesis.subscription._WINDOW", 20_000)
    put(kinesis, *[bytes([number]) * 100_000 for number in range(5)])
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    assert [data[0] for data in await data_of(subscription, 5)] == list(range(5))
    subscription.close()


async def test_what_is_not_taken_stays_with_the_sender(
    kinesis: LocalKinesis, fan_out: FanOutApi
) -> None:
    put(kinesis, *[b"x" * 1_000_000] * 30)
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    first = await event_of(subscription)
    assert len(first.records) == 1
    # Long enough for all thirty to arrive, if nothing held them back.
    await asyncio.sleep(0.5)
    waiting = sum(len(each.payload) for each in subscription._messages)  # type: ignore[attr-defined]
    assert waiting < 5_000_000
    assert len(await data_of(subscription, 29)) == 29
    subscription.close()


async def test_a_connection_that_is_cut_is_an_error(
    kinesis: LocalKinesis, fan_out: FanOutApi
) -> None:
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    assert kinesis.push is not None
    await kinesis.push.cut()
    with pytest.raises(TransientError, match=f"SubscribeToShard of {FIRST}"):
        async with asyncio.timeout(10):
            await subscription.next()
    subscription.close()


async def test_closing_ends_a_wait(fan_out: FanOutApi) -> None:
    subscription = await fan_out.subscribe(FIRST, TRIM_HORIZON)
    waiting = asyncio.create_task(subscription.next())
    await asyncio.sleep(0)
    subscription.close()
    assert await asyncio.wait_for(waiting, 10) is None


async def test_refusals_have_their_own_errors(fan_out: FanOutApi) -> None:
    with pytest.raises(NotFoundError, match="shardId-000000000009"):
        await fan_out.subscribe("shardId-000000000009", TRIM_HORIZON)
    with pytest.raises(InvalidArgumentError):
        await fan_out.subscribe(FIRST, Position("42"))


async def test_an_endpoint_that_is_not_there_is_transient(
    kinesis: LocalKinesis, fan_out: FanOutApi
) -> None:
    assert kinesis.push is not None
    await kinesis.push.stop()
    with pytest.raises(TransientError, match="SubscribeToShard"):
        await fan_out.subscribe(FIRST, TRIM_HORIZON)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    kinesis: LocalKinesis, client: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    read = msgspec.structs.replace(read_config(kinesis), timeout=1.0)
    fan_out = await client.fan_out("group", read)
    with pytest.raises(TransientError, match="certificate trusted"):
        await fan_out.subscribe(FIRST, TRIM_HORIZON)


async def test_workers_share_one_registration(kinesis: LocalKinesis, client: KinesisClient) -> None:
    await asyncio.gather(*[client.fan_out("group", read_config(kinesis)) for _ in range(5)])
    arn = (await client.describe_stream()).arn
    listed = kinesis.core.call("ListStreamConsumers", StreamARN=arn)["Consumers"]
    assert [(each["ConsumerName"], each["ConsumerStatus"]) for each in listed] == [
        ("group", "ACTIVE")
    ]


async def test_a_registration_is_waited_for_until_it_is_active(
    kinesis: LocalKinesis, client: KinesisClient, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinesis.core.account.transition_delay_s = 3.0
    waits: list[float] = []

    async def let_time_pass(seconds: float) -> None:
        waits.append(seconds)
        time.now += seconds

    monkeypatch.setattr(client, "_sleep", let_time_pass)
    await client.fan_out("group", read_config(kinesis))
    assert sum(waits) == 3.0

    kinesis.core.account.transition_delay_s = 1_000.0
    with pytest.raises(TransientError, match="not ACTIVE after 60 s"):
        await client.fan_out("other", read_config(kinesis))


async def test_too_many_consumers_are_refused_with_what_to_do(
    kinesis: LocalKinesis, client: KinesisClient
) -> None:
    arn = (await client.describe_stream()).arn
    for number in range(20):
        kinesis.core.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName=f"c{number}")
    with pytest.raises(StreamError, match=r"read\.consumer"):
        await client.fan_out("one-more", read_config(kinesis))


async def test_a_connection_that_comes_too_late_is_closed() -> None:
    class Connection:
        closed = asyncio.Event()

        def close(self) -> None:
            self.closed.set()

    connecting: Future[Connection] = Future()
    waiting = asyncio.create_task(_connected(connecting))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    connecting.set_result(Connection())
    await asyncio.wait_for(Connection.closed.wait(), 10)
