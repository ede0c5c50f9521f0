"""Dead letters on their way out of Redis: payload untouched, removed once they have arrived."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from streamproc.config import Config, DeadLetterConfig
from streamproc.deadletter import DeadLetter
from streamproc.errors import ConfigError
from streamproc.sinks.letters import EventLetterSink, LetterSink, open_letter_sink
from streamproc.sinks.relay import DeadLetterRelay, open_letter_relays
from streamproc.state.keys import Keys
from tests.sinks.making import FakeSink
from tests.waiting import until

KEYS = Keys("payments")
Aws = Callable[[str], Any]

ANY_BYTES = bytes(range(256)) + "é\uffff".encode()


def letter(number: int, data: bytes = ANY_BYTES) -> DeadLetter:
    return DeadLetter(
        reason="handler-failed",
        error="ValueError: é",
        stream="payments",
        shard="shardId-000000000000",
        sequence=str(1_000 + number),
        partition_key="card-1",
        arrival=1_700_000_000.25,
        data=data,
        attempts=3,
        event_type="Paid",
        event_id=f"p{number}",
        handler="fraud.score",
        sub=2,
    )


async def put_aside(client: redis.asyncio.Redis, *letters: DeadLetter) -> None:
    for each in letters:
        flat = each.fields()
        fields: dict[Any, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
        await client.xadd(KEYS.dead_letters, fields)


def config(sink: str, **options: Any) -> Config:
    return Config(dead_letters=DeadLetterConfig(sink=sink, options=options))


class FakeLetterSink(LetterSink):
    """Takes what `refuse` does not name, in order."""

    def __init__(self) -> None:
        self.taken: list[DeadLetter] = []
        self.refuse: set[str] = set()

    async def send(self, letters: Sequence[DeadLetter]) -> set[int]:
        done = {at for at, each in enumerate(letters) if each.event_id not in self.refuse}
        self.taken += [letters[at] for at in sorted(done)]
        return done

    async def aclose(self) -> None: ...


async def test_letters_leave_whole_and_one_that_cannot_go_holds_up_no_other(
    client: redis.asyncio.Redis,
) -> None:
    letters = [letter(n) for n in range(10)]
    await put_aside(client, *letters)
    sink = FakeLetterSink()
    sink.refuse = {"p3"}
    relay = DeadLetterRelay(client, KEYS, sink, "w1", batch=4, poll_interval=0.01)
    task = asyncio.create_task(relay.run())
    await until(lambda: len(sink.taken) == 9)
    assert sink.taken == [each for each in letters if each.event_id != "p3"]
    await until(lambda: _length(client, 1))
    relay.stop()
    await task
    ((_, fields),) = await client.xrange(KEYS.dead_letters)
    assert fields[b"event_id"] == b"p3"


async def _length(client: redis.asyncio.Redis, expected: int) -> bool:
    return bool(await client.xlen(KEYS.dead_letters) == expected)


async def test_in_a_queue_a_letter_is_an_event_with_its_payload_in_base64(
    client: redis.asyncio.Redis, aws: Aws, moto_url: str
) -> None:
    queue = aws("sqs").create_queue(QueueName="dead")["QueueUrl"]
    await put_aside(client, letter(1))
    settings = config("sqs", queue_url=queue, endpoint_url=moto_url)
    async with open_letter_relays(settings, client, [KEYS], "w1", poll_interval=0.01) as relay:
        assert relay is not None
        await until(lambda: relay.statistics().delivered == 1)
    (message,) = aws("sqs").receive_message(QueueUrl=queue)["Messages"]
    event = json.loads(message["Body"])
    assert (event["specversion"], event["type"]) == ("1.0", "streamproc.DeadLetter.v1")
    assert event["id"] == "payments/shardId-000000000000/1001/2"
    assert base64.b64decode(event["data"].pop("payload_base64")) == ANY_BYTES
    assert event["data"] == letter(1).facts()
    assert await _length(client, 0)


async def test_in_a_bucket_a_letters_payload_is_an_object_as_it_was(
    client: redis.asyncio.Redis, aws: Aws, moto_url: str
) -> None:
    aws("s3").create_bucket(Bucket="dead")
    await put_aside(client, letter(1), letter(2, b""), letter(3, b"x" * 1_048_576))
    settings = config("s3", bucket="dead", prefix="dlq/", endpoint_url=moto_url)
    async with open_letter_relays(settings, client, [KEYS], "w1", poll_interval=0.01) as relay:
        assert relay is not None
        await until(lambda: relay.statistics().delivered == 3)
    s3 = aws("s3")
    for each in (letter(1), letter(2, b""), letter(3, b"x" * 1_048_576)):
        name = f"payments/shardId-000000000000/{each.sequence}-2"
        body = s3.get_object(Bucket="dead", Key=f"dlq/{name}.bin")["Body"].read()
        facts = json.loads(s3.get_object(Bucket="dead", Key=f"dlq/{name}.json")["Body"].read())
        assert body == each.data
        assert facts == each.facts() | {"payload": f"{name}.bin"}
    assert await _length(client, 0)


async def test_a_payload_too_large_for_a_queue_stays_in_redis_and_the_others_leave(
    client: redis.asyncio.Redis,
    aws: Aws,
    moto_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = aws("sqs").create_queue(QueueName="small")["QueueUrl"]
    # Below Kinesis's limit, and above that of SQS once it is text.
    await put_aside(client, letter(1, b"x" * 900_000), letter(2))
    settings = config("sqs", queue_url=queue, endpoint_url=moto_url)
    async with open_letter_relays(settings, client, [KEYS], "w1", poll_interval=0.01) as relay:
        assert relay is not None
        await until(lambda: relay.statistics().delivered == 1)
        await put_aside(client, letter(3))
        await until(lambda: relay.statistics().delivered == 2)
        assert relay.statistics().failures > 0
    ((_, fields),) = await client.xrange(KEYS.dead_letters)
    assert fields[b"event_id"] == b"p1"
    assert len(fields[b"data"]) == 900_000
    assert caplog.text.count("use the s3 sink") == 1


async def test_any_sink_of_events_takes_dead_letters() -> None:
    events = FakeSink()
    sink = EventLetterSink(events)
    assert await sink.send([letter(1), letter(2)]) == {0, 1}
    assert len({event.key for event in events.taken}) == 2
    await sink.aclose()
    assert events.closed


@pytest.mark.parametrize("name", ["s3", "sqs", "log"])
async def test_wrong_options_are_told_with_their_table(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[dead_letters\] options\.x: the {name} sink"):
        await open_letter_sink(name, {"x": 1})


async def test_without_a_sink_letters_stay(client: redis.asyncio.Redis) -> None:
    async with open_letter_relays(Config(), client, [KEYS], "w1") as relay:
        assert relay is None
