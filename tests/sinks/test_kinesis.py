from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from streamproc.config import StreamConfig
from streamproc.errors import ConfigError, StreamError
from streamproc.kinesis.api import PutEntry, PutResult
from streamproc.kinesis.client import open_kinesis
from streamproc.kinesis.errors import KinesisError
from streamproc.sinks.kinesis import KinesisSink
from streamproc.sinks.sink import OutgoingEvent, open_sink
from streamproc.testing import LocalKinesis
from tests.sinks.making import event


@pytest.fixture(autouse=True)
def out_stream(local_kinesis: LocalKinesis) -> None:
    local_kinesis.core.call("CreateStream", StreamName="out", ShardCount=2)


class Counting:
    """Passes PutRecords on and remembers what was asked for."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.requests: list[list[PutEntry]] = []
        self.pauses: list[float] = []

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        self.requests.append(list(entries))
        answer: list[PutResult] = await self.api.put_records(entries)
        return answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def api(local_kinesis: LocalKinesis) -> AsyncIterator[Counting]:
    config = StreamConfig(name="out", endpoint_url=local_kinesis.endpoint_url)
    async with open_kinesis(config) as client:
        yield Counting(client)


def sink_on(api: Counting, **options: Any) -> KinesisSink:
    return KinesisSink(api, sleep=api.sleep, rng=random.Random(1), **options)  # type: ignore[arg-type]


def stored(kinesis: LocalKinesis) -> list[tuple[str, bytes]]:
    """Return (key, data) of all records, shard by shard in order."""
    found = []
    for shard in kinesis.core.call("ListShards", StreamName="out")["Shards"]:
        iterator = kinesis.core.call(
            "GetShardIterator",
            StreamName="out",
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        while True:
            answer = kinesis.core.call("GetRecords", ShardIterator=iterator)
            if not answer["Records"]:
                break
            found += [(r["PartitionKey"], base64.b64decode(r["Data"])) for r in answer["Records"]]
            iterator = answer["NextShardIterator"]
    return found


def numbered(*keys: str) -> list[OutgoingEvent]:
    """Return an event for each key, whose data is its number."""
    return [
        OutgoingEvent(id=str(n), type="T", key=key, cause="c", data=str(n).encode())
        for n, key in enumerate(keys)
    ]


def by_key(records: Sequence[tuple[str, bytes]]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for key, data in records:
        grouped.setdefault(key, []).append(int(data))
    return grouped


async def test_events_arrive_under_their_keys(local_kinesis: LocalKinesis, api: Counting) -> None:
    assert await sink_on(api).send(numbered("a", "b", "c")) == {0, 1, 2}
    assert by_key(stored(local_kinesis)) == {"a": [0], "b": [1], "c": [2]}
    assert len(api.requests) == 1


async def test_a_request_has_at_most_500_records(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    events = numbered(*[f"k{n}" for n in range(1_201)])
    assert await sink_on(api).send(events) == set(range(1_201))
    assert [len(request) for request in api.requests] == [500, 500, 201]
    assert len(stored(local_kinesis)) == 1_201


async def test_a_request_is_below_one_mebibyte(local_kinesis: LocalKinesis, api: Counting) -> None:
    events = [event(str(n), f"k{n}", size=160 * 1024 - 2) for n in range(9)]
    assert await sink_on(api).send(events) == set(range(9))
    assert [len(request) for request in api.requests] == [4, 4, 1]


async def test_no_request_has_two_records_of_a_key(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    await sink_on(api).send(numbered("a", "a", "b", "a"))
    assert [[e.partition_key for e in request] for request in api.requests] == [
        ["a", "b"],
        ["a"],
        ["a"],
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_partial_failures_keep_the_order_of_each_key_and_make_no_repeats(
    local_kinesis: LocalKinesis, api: Counting, seed: int
) -> None:
    rng = random.Random(seed)
    events = numbered(*[rng.choice("abcdef") for _ in range(60)])
    for _ in range(10):
        local_kinesis.faults.fail_records(count=rng.randrange(1, 4), skip=rng.randrange(4))
    assert await sink_on(api).send(events) == set(range(60))
    expected: dict[str, list[int]] = {}
    for n, sent in enumerate(events):
        expected.setdefault(sent.key, []).append(n)
    assert by_key(stored(local_kinesis)) == expected
    assert local_kinesis.faults.fired > 0
    assert api.pauses


async def test_a_shard_that_refuses_everything_does_not_hold_up_the_other(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    first = local_kinesis.core.call("ListShards", StreamName="out")["Shards"][0]["ShardId"]
    local_kinesis.faults.fail_records(count=None, shard=first)
    events = numbered(*[f"k{n}" for n in range(20)])
    done = await sink_on(api).send(events)
    arrived = {int(data) for _, data in stored(local_kinesis)}
    assert done == arrived
    assert 0 < len(done) < 20


async def test_a_throttled_call_is_repeated_after_a_pause(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.throttle("PutRecords", count=2)
    assert await sink_on(api).send(numbered("a")) == {0}
    assert len(api.pauses) == 2
    assert by_key(stored(local_kinesis)) == {"a": [0]}


async def test_one_request_that_fails_does_not_hold_up_the_others(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.throttle("PutRecords", count=1)
    assert await sink_on(api).send(numbered(*[f"k{n}" for n in range(501)])) == set(range(501))
    assert [len(request) for request in api.requests] == [500, 1, 500]


async def test_an_answer_that_was_lost_repeats_the_event_rather_than_lose_it(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.drop_connection("PutRecords", applied=True)
    assert await sink_on(api).send(numbered("a", "a")) == {0, 1}
    assert by_key(stored(local_kinesis)) == {"a": [0, 0, 1]}


async def test_it_gives_up_after_a_while_and_says_why(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.server_error("PutRecords", count=None)
    with pytest.raises(KinesisError, match="InternalFailure"):
        await sink_on(api).send(numbered("a"))
    assert len(api.requests) == 5


async def test_what_was_put_before_an_outage_counts_as_delivered(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.server_error("PutRecords", count=None, skip=1)
    assert await sink_on(api).send(numbered("a", "a")) == {0}


async def test_a_stream_that_does_not_exist_is_refused_at_once(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.core.call("DeleteStream", StreamName="out")
    with pytest.raises(StreamError, match="out"):
        await sink_on(api).send(numbered("a"))
    assert len(api.requests) == 1


async def test_a_refusal_after_something_was_put_loses_no_acknowledgement(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    local_kinesis.faults.error("PutRecords", code="AccessDeniedException", count=None, skip=1)
    assert await sink_on(api).send(numbered("a", "a")) == {0}
    assert len(api.requests) == 2


async def test_an_event_too_large_for_a_record_blocks_its_key_only(
    local_kinesis: LocalKinesis, api: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    sink = sink_on(api, max_record_bytes=100)
    events = [event("0", "a", 100), event("1", "a", 10), event("2", "b", 99)]
    assert await sink.send(events) == {2}
    assert await sink.send(events) == {2}
    assert caplog.text.count("event 0 has 101 bytes") == 1
    assert [key for key, _ in stored(local_kinesis)] == ["b", "b"]


async def test_keys_that_kinesis_does_not_take_are_told_apart_by_a_digest(
    local_kinesis: LocalKinesis, api: Counting
) -> None:
    keys = ["", "x" * 257, "y" * 257, "z" * 256]
    assert await sink_on(api).send(numbered(*keys)) == {0, 1, 2, 3}
    used = {int(data): key for key, data in stored(local_kinesis)}
    assert used[3] == keys[3]
    assert len(set(used.values())) == 4
    assert all(1 <= len(key) <= 256 for key in used.values())


async def test_it_is_opened_by_name_with_its_options(local_kinesis: LocalKinesis) -> None:
    sink = await open_sink("kinesis", {"stream": "out", "endpoint_url": local_kinesis.endpoint_url})
    try:
        assert await sink.send(numbered("a")) == {0}
    finally:
        await sink.aclose()
    assert by_key(stored(local_kinesis)) == {"a": [0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "stream"),
        ({"stream": ""}, "stream"),
        ({"strem": "out"}, "did you mean stream"),
        ({"stream": "out", "max_record_bytes": "many"}, "max_record_bytes"),
    ],
)
async def test_wrong_options_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await open_sink("kinesis", options)
