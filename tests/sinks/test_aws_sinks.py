"""SQS, SNS and S3, on a server that speaks their protocols."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamproc.errors import ConfigError, StreamError, StreamprocError
from streamproc.sinks.aws import Unavailable, open_aws
from streamproc.sinks.sink import OutgoingEvent, Sink, open_sink
from streamproc.sinks.sns import SnsSink
from streamproc.sinks.sqs import SqsSink

Aws = Callable[[str], Any]


def numbered(*keys: str) -> list[OutgoingEvent]:
    """Return an event for each key, whose data tells its number."""
    return [
        OutgoingEvent(id=f"id-{n}", type="Flagged", key=key, cause="c", data=b'{"n":%d}' % n)
        for n, key in enumerate(keys)
    ]


def sized(event_id: str, size: int) -> OutgoingEvent:
    return OutgoingEvent(id=event_id, type="T", key=event_id, cause="c", data=b"x" * size)


@asynccontextmanager
async def opened(name: str, endpoint_url: str, **options: Any) -> AsyncIterator[Sink]:
    sink = await open_sink(name, {"endpoint_url": endpoint_url, **options})
    try:
        yield sink
    finally:
        await sink.aclose()


@pytest.fixture(params=["queue", "queue.fifo"])
def queue(request: pytest.FixtureRequest, aws: Aws) -> str:
    attributes = {"FifoQueue": "true"} if request.param.endswith(".fifo") else {}
    name = f"{uuid.uuid4().hex}-{request.param}"
    answer = aws("sqs").create_queue(QueueName=name, Attributes=attributes)
    return str(answer["QueueUrl"])


def received(aws: Aws, queue: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    sqs = aws("sqs")
    while True:
        answer = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages")
        if not answer:
            return found
        for message in answer:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        found += answer


def numbers(messages: Sequence[dict[str, Any]]) -> list[int]:
    return [json.loads(message["Body"])["n"] for message in messages]


class Unreliable:
    """Sends a part of each batch and reports the rest as failed; remembers what was asked for."""

    def __init__(self, client: Any, rng: random.Random, share: float = 0.4) -> None:
        self.client = client
        self.rng = rng
        self.share = share
        self.requests: list[list[dict[str, Any]]] = []

    async def send_message_batch(self, *, QueueUrl: str, Entries: Any) -> Any:
        async def send(entries: Any) -> Any:
            return await self.client.send_message_batch(QueueUrl=QueueUrl, Entries=entries)

        return await self._part(Entries, send)

    async def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: Any) -> Any:
        async def send(entries: Any) -> Any:
            return await self.client.publish_batch(
                TopicArn=TopicArn, PublishBatchRequestEntries=entries
            )

        return await self._part(PublishBatchRequestEntries, send)

    async def _part(self, entries: list[dict[str, Any]], send: Callable[[Any], Any]) -> Any:
        self.requests.append(entries)
        sent = [entry for entry in entries if self.rng.random() >= self.share]
        answer = await send(sent) if sent else {}
        failed = [{"Id": e["Id"], "Code": "InternalError"} for e in entries if e not in sent]
        return {"Successful": answer.get("Successful", []), "Failed": failed}


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_events_arrive_in_the_queue(aws: Aws, queue: str, moto_url: str) -> None:
    async with opened("sqs", moto_url, queue_url=queue) as sink:
        assert await sink.send(numbered(*[f"k{n}" for n in range(25)])) == set(range(25))
    messages = received(aws, queue)
    assert sorted(numbers(messages)) == list(range(25))
    if queue.endswith(".fifo"):
        assert {m["Attributes"]["MessageGroupId"] for m in messages} == {f"k{n}" for n in range(25)}


@pytest.mark.parametrize("seed", range(3))
async def test_what_a_batch_leaves_out_is_sent_again_and_each_key_stays_in_order(
    aws: Aws, queue: str, moto_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    keys = [rng.choice("abcdef") for _ in range(40)]
    async with open_aws("sqs", None, moto_url) as client:
        unreliable = Unreliable(client, rng)
        sink = SqsSink(unreliable, queue, sleep=no_sleep, rng=rng)
        assert await sink.send(numbered(*keys)) == set(range(40))
    assert all(len(request) <= 10 for request in unreliable.requests)
    arrived = numbers(received(aws, queue))
    assert sorted(arrived) == list(range(40))
    if queue.endswith(".fifo"):
        for key in "abcdef":
            own = [n for n, each in enumerate(keys) if each == key]
            assert [n for n in arrived if keys[n] == key] == own


async def test_a_fifo_queue_drops_what_is_delivered_again(aws: Aws, moto_url: str) -> None:
    queue = aws("sqs").create_queue(QueueName="again.fifo", Attributes={"FifoQueue": "true"})
    url = queue["QueueUrl"]
    async with opened("sqs", moto_url, queue_url=url) as sink:
        for _ in range(2):
            assert await sink.send(numbered("a", "a", "b")) == {0, 1, 2}
    assert sorted(numbers(received(aws, url))) == [0, 1, 2]


async def test_a_message_of_one_mebibyte_is_the_largest_and_a_request_holds_no_more(
    aws: Aws, queue: str, moto_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    most = 1024 * 1024
    async with open_aws("sqs", None, moto_url) as client:
        counting = Unreliable(client, random.Random(1), share=1.0)
        sink = SqsSink(counting, queue, sleep=no_sleep)
        events = [sized("large", most + 1), sized("most", most), *[
            sized(f"e{n}", most // 3) for n in range(4)
        ]]  # fmt: skip
        assert await sink.send(events) == set()
    first_round = [len(request) for request in counting.requests[:3]]
    assert first_round == [1, 3, 1]
    assert "event large has 1048577 bytes" in caplog.text
    assert "use the s3 sink" in caplog.text


async def test_characters_that_sqs_would_replace_are_escaped(aws: Aws, moto_url: str) -> None:
    queue = aws("sqs").create_queue(QueueName="odd")["QueueUrl"]
    odd = json.dumps({"text": "\uffff\ufffe\u2028é𝄞"}, ensure_ascii=False)
    event = OutgoingEvent(id="1", type="T", key="k", cause="c", data=odd.encode())
    async with opened("sqs", moto_url, queue_url=queue) as sink:
        assert await sink.send([event]) == {0}
    (message,) = received(aws, queue)
    assert not set("\uffff\ufffe") & set(message["Body"])
    assert json.loads(message["Body"]) == json.loads(odd)


@pytest.mark.parametrize("topic", ["topic", "topic.fifo"])
async def test_events_arrive_at_the_topics_subscribers(aws: Aws, moto_url: str, topic: str) -> None:
    rng = random.Random(topic)
    fifo = topic.endswith(".fifo")
    attributes = {"FifoTopic": "true"} if fifo else {}
    arn = aws("sns").create_topic(Name=topic, Attributes=attributes)["TopicArn"]
    queue = aws("sqs").create_queue(
        QueueName=f"sub-{topic}", Attributes={"FifoQueue": "true"} if fifo else {}
    )["QueueUrl"]
    endpoint = f"arn:aws:sqs:us-east-1:123456789012:sub-{topic}"
    aws("sns").subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=endpoint, Attributes={"RawMessageDelivery": "true"}
    )
    keys = [rng.choice("abc") for _ in range(30)]
    async with open_aws("sns", None, moto_url) as client:
        sink = SnsSink(Unreliable(client, rng), arn, sleep=no_sleep, rng=rng)
        assert await sink.send(numbered(*keys)) == set(range(30))
    arrived = numbers(received(aws, queue))
    assert sorted(arrived) == list(range(30))
    if fifo:
        for key in "abc":
            own = [n for n, each in enumerate(keys) if each == key]
            assert [n for n in arrived if keys[n] == key] == own


async def test_each_event_is_an_object_and_a_second_delivery_the_same_one(
    aws: Aws, moto_url: str
) -> None:
    aws("s3").create_bucket(Bucket="events")
    events = [
        *numbered("a", "b"),
        OutgoingEvent(id="../x", type="..", key="k", cause="c", data=b"{}"),
    ]
    async with opened("s3", moto_url, bucket="events", prefix="out/") as sink:
        for _ in range(2):
            assert await sink.send(events) == {0, 1, 2}
    listed = aws("s3").list_objects_v2(Bucket="events")["Contents"]
    assert {each["Key"] for each in listed} == {
        "out/Flagged/id-0.json", "out/Flagged/id-1.json", "out/%2E%2E/..%2Fx.json",
    }  # fmt: skip
    body = aws("s3").get_object(Bucket="events", Key="out/Flagged/id-1.json")["Body"].read()
    assert body == b'{"n":1}'


SINKS: dict[str, dict[str, Any]] = {
    "sqs": {"queue_url": "http://127.0.0.1:1/1/no-such-queue"},
    "sns": {"topic_arn": "arn:aws:sns:us-east-1:123456789012:no-such-topic"},
    "s3": {"bucket": "no-such-bucket"},
}


@pytest.mark.parametrize("name", SINKS)
async def test_a_destination_that_does_not_exist_is_refused_with_its_name(
    name: str, moto_url: str
) -> None:
    async with opened(name, moto_url, **SINKS[name]) as sink:
        with pytest.raises(StreamError, match=r"no-such-.*check that it exists"):
            await sink.send(numbered("a"))


@pytest.mark.parametrize("name", SINKS)
async def test_a_destination_that_is_away_may_be_asked_again(name: str) -> None:
    async with opened(name, "http://127.0.0.1:1", **SINKS[name]) as sink:
        if hasattr(sink, "_sleep"):
            sink._sleep = no_sleep
        with pytest.raises(Unavailable, match="no-such"):
            await sink.send(numbered("a"))


@pytest.mark.parametrize("name", SINKS)
async def test_wrong_options_are_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\[outbox\] options of the"):
        await open_sink(name, {})
    with pytest.raises(ConfigError, match=rf"options\.regoin: the {name} sink.*mean region"):
        await open_sink(name, {**SINKS[name], "regoin": "x"})
    with pytest.raises(ConfigError, match=r"endpoint_url"):
        await open_sink(name, {**SINKS[name], "endpoint_url": "nonsense"})


async def test_no_credentials_are_told(monkeypatch: pytest.MonkeyPatch, moto_url: str) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    async with opened("s3", moto_url, bucket="events") as sink:
        with pytest.raises(StreamprocError, match="AWS_ACCESS_KEY_ID"):
            await sink.send(numbered("a"))
