"""What depends on time: states, expiry, retention, throttling. The clock is moved by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamproc.testing import LocalKinesisCore
from streamproc.testing.localkinesis import KinesisError

from .clock import Clock

STREAM = "orders"
SHARD = "shardId-000000000000"
MIB = 1024 * 1024
HOUR_S = 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def core(clock: Clock) -> LocalKinesisCore:
    core = LocalKinesisCore(clock=clock)
    core.call("CreateStream", StreamName=STREAM, ShardCount=1)
    return core


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(KinesisError) as caught:
        yield
    assert caught.value.code == code


def put(core: LocalKinesisCore, data: bytes = b"1", key: str = "key") -> dict[str, Any]:
    answer: dict[str, Any] = core.call("PutRecord", StreamName=STREAM, Data=data, PartitionKey=key)
    return answer


def iterator(core: LocalKinesisCore, kind: str = "TRIM_HORIZON", **more: Any) -> str:
    answer = core.call(
        "GetShardIterator", StreamName=STREAM, ShardId=SHARD, ShardIteratorType=kind, **more
    )
    text: str = answer["ShardIterator"]
    return text


def read(core: LocalKinesisCore, text: str | None = None) -> list[bytes]:
    answer = core.call("GetRecords", ShardIterator=text or iterator(core))
    return [base64.b64decode(record["Data"]) for record in answer["Records"]]


def test_an_iterator_lives_five_minutes(core: LocalKinesisCore, clock: Clock) -> None:
    text = iterator(core)
    clock.advance(300)
    assert read(core, text) == []
    clock.advance(0.001)
    with refused("ExpiredIteratorException"):
        read(core, text)


def test_every_answer_carries_a_fresh_iterator(core: LocalKinesisCore, clock: Clock) -> None:
    text = iterator(core)
    for _ in range(5):
        clock.advance(200)
        text = core.call("GetRecords", ShardIterator=text)["NextShardIterator"]
    assert read(core, text) == []


def test_a_page_token_lives_five_minutes(core: LocalKinesisCore, clock: Clock) -> None:
    core.call("CreateStream", StreamName="two", ShardCount=2)
    token = core.call("ListShards", StreamName="two", MaxResults=1)["NextToken"]
    clock.advance(300)
    assert len(core.call("ListShards", NextToken=token)["Shards"]) == 1
    clock.advance(0.001)
    with refused("ExpiredNextTokenException"):
        core.call("ListShards", NextToken=token)


def test_records_are_trimmed_after_the_retention_period(
    core: LocalKinesisCore, clock: Clock
) -> None:
    put(core, b"old")
    clock.advance(HOUR_S)
    put(core, b"new")
    clock.advance(23 * HOUR_S)
    assert read(core) == [b"old", b"new"]
    clock.advance(0.001)
    assert read(core) == [b"new"]
    clock.advance(HOUR_S)
    assert read(core) == []


def test_an_iterator_into_trimmed_records_goes_on_at_the_horizon(
    core: LocalKinesisCore, clock: Clock
) -> None:
    first = put(core, b"old")
    clock.advance(24 * HOUR_S)
    put(core, b"new")
    text = iterator(core, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=first["SequenceNumber"])
    clock.advance(60)
    assert read(core, text) == [b"new"]
    text = iterator(core, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=first["SequenceNumber"])
    assert read(core, text) == [b"new"]


def test_positions_survive_trimming_many_times(core: LocalKinesisCore, clock: Clock) -> None:
    numbers: list[int] = []
    for hour in range(100):
        number = put(core, b"%d" % hour)["SequenceNumber"]
        clock.advance(HOUR_S)
        assert read(core) == [b"%d" % h for h in range(max(0, hour - 23), hour + 1)]
        newest = iterator(core, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=number)
        assert read(core, newest) == [b"%d" % hour]
        numbers.append(int(number))
    assert numbers == sorted(set(numbers))


def test_longer_retention_keeps_records_longer(core: LocalKinesisCore, clock: Clock) -> None:
    core.call("IncreaseStreamRetentionPeriod", StreamName=STREAM, RetentionPeriodHours=48)
    put(core, b"1")
    clock.advance(40 * HOUR_S)
    assert read(core) == [b"1"]
    core.call("DecreaseStreamRetentionPeriod", StreamName=STREAM, RetentionPeriodHours=24)
    assert read(core) == []


def test_a_closed_shard_goes_when_its_records_have_expired(
    core: LocalKinesisCore, clock: Clock
) -> None:
    put(core)
    core.call("SplitShard", StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey=str(2**127))
    clock.advance(24 * HOUR_S)
    assert len(core.call("ListShards", StreamName=STREAM)["Shards"]) == 3
    clock.advance(0.001)
    shards = core.call("ListShards", StreamName=STREAM)["Shards"]
    assert [shard["ShardId"] for shard in shards] == [
        "shardId-000000000001",
        "shardId-000000000002",
    ]
    assert {shard["ParentShardId"] for shard in shards} == {SHARD}
    with refused("ResourceNotFoundException"):
        iterator(core)


def test_arrival_times_have_milliseconds(core: LocalKinesisCore, clock: Clock) -> None:
    clock.now = 1_800_000_000.0625
    put(core)
    body = core.handle("GetRecords", b'{"ShardIterator":"%s"}' % iterator(core).encode()).body
    assert b'"ApproximateArrivalTimestamp":1800000000.062,' in body


def test_arrival_times_never_go_back(core: LocalKinesisCore, clock: Clock) -> None:
    put(core, b"first")
    arrived = clock.now
    clock.advance(-60)
    put(core, b"second")
    clock.advance(120)
    assert read(core, iterator(core, "AT_TIMESTAMP", Timestamp=arrived)) == [b"first", b"second"]


def test_at_timestamp_finds_the_first_record_not_before(
    core: LocalKinesisCore, clock: Clock
) -> None:
    start = clock.now
    for i in range(5):
        put(core, b"%d" % i)
        clock.advance(1)
    for offset, expected in [(-1, 0), (0, 0), (0.001, 1), (1, 1), (3.5, 4), (4, 4), (4.5, 5)]:
        text = iterator(core, "AT_TIMESTAMP", Timestamp=start + offset)
        assert read(core, text) == [b"%d" % i for i in range(expected, 5)]


def test_millis_behind_latest_is_the_age_of_the_next_record(
    core: LocalKinesisCore, clock: Clock
) -> None:
    put(core)
    clock.advance(2.5)
    put(core)
    clock.advance(1.25)
    text = iterator(core)
    page = core.call("GetRecords", ShardIterator=text, Limit=1)
    assert page["MillisBehindLatest"] == 1250
    page = core.call("GetRecords", ShardIterator=page["NextShardIterator"], Limit=1)
    assert page["MillisBehindLatest"] == 0


def test_a_reader_behind_never_sees_zero_even_when_the_clock_stands(
    core: LocalKinesisCore,
) -> None:
    put(core)
    put(core)
    page = core.call("GetRecords", ShardIterator=iterator(core), Limit=1)
    assert page["MillisBehindLatest"] > 0


def test_a_stream_passes_through_its_states() -> None:
    clock = Clock()
    core = LocalKinesisCore(clock=clock, transition_delay_s=10.0)

    def status() -> str:
        answer = core.call("DescribeStreamSummary", StreamName=STREAM)
        text: str = answer["StreamDescriptionSummary"]["StreamStatus"]
        return text

    core.call("CreateStream", StreamName=STREAM, ShardCount=1)
    assert status() == "CREATING"
    with refused("ResourceNotFoundException"):
        put(core)
    with refused("ResourceInUseException"):
        core.call("ListShards", StreamName=STREAM)
    clock.advance(10)
    assert status() == "ACTIVE"

    core.call("SplitShard", StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey="1000")
    assert status() == "UPDATING"
    assert put(core)["ShardId"] == SHARD, "the parent takes records until the split is done"
    with refused("ResourceInUseException"):
        core.call("SplitShard", StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey="9")
    clock.advance(10)
    assert status() == "ACTIVE"
    assert put(core)["ShardId"] == "shardId-000000000002"

    core.call("DeleteStream", StreamName=STREAM)
    assert status() == "DELETING"
    with refused("ResourceNotFoundException"):
        put(core)
    with refused("ResourceInUseException"):
        core.call("CreateStream", StreamName=STREAM, ShardCount=1)
    clock.advance(10)
    with refused("ResourceNotFoundException"):
        status()


def test_filters_by_time_follow_the_lives_of_shards(core: LocalKinesisCore, clock: Clock) -> None:
    born = clock.now
    clock.advance(100)
    core.call("SplitShard", StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey="1000")
    clock.advance(100)
    core.call(
        "MergeShards",
        StreamName=STREAM,
        ShardToMerge="shardId-000000000001",
        AdjacentShardToMerge="shardId-000000000002",
    )
    clock.advance(100)

    def ids(kind: str, offset: float) -> list[int]:
        answer = core.call(
            "ListShards",
            StreamName=STREAM,
            ShardFilter={"Type": kind, "Timestamp": born + offset},
        )
        return [int(shard["ShardId"].removeprefix("shardId-")) for shard in answer["Shards"]]

    assert ids("AT_TIMESTAMP", -50) == ids("AT_TIMESTAMP", 50) == [0]
    assert ids("AT_TIMESTAMP", 100) == [0, 1, 2], "both ends of a shard's life count as alive"
    assert ids("AT_TIMESTAMP", 150) == [1, 2]
    assert ids("AT_TIMESTAMP", 250) == [3]
    assert ids("FROM_TIMESTAMP", -50) == ids("FROM_TIMESTAMP", 50) == [0, 1, 2, 3]
    assert ids("FROM_TIMESTAMP", 150) == [1, 2, 3]
    assert ids("FROM_TIMESTAMP", 250) == [3]


def test_a_stream_made_anew_has_greater_numbers_and_refuses_old_iterators(
    core: LocalKinesisCore,
) -> None:
    old = put(core)["SequenceNumber"]
    text = iterator(core)
    core.call("DeleteStream", StreamName=STREAM)
    core.call("CreateStream", StreamName=STREAM, ShardCount=1)
    assert int(put(core)["SequenceNumber"]) > int(old)
    with refused("InvalidArgumentException"):
        read(core, text)
    with refused("InvalidArgumentException"):
        iterator(core, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=old)


class TestThrottling:
    """Rates of one shard, as the quotas page has them."""

    @pytest.fixture(autouse=True)
    def _on(self, core: LocalKinesisCore) -> None:
        core.throttling = True

    def test_a_shard_takes_1000_records_a_second(
        self, core: LocalKinesisCore, clock: Clock
    ) -> None:
        batch = [{"Data": b"1", "PartitionKey": "k"}] * 400
        failed = [
            core.call("PutRecords", StreamName=STREAM, Records=batch)["FailedRecordCount"]
            for _ in range(3)
        ]
        assert failed == [0, 0, 200]
        with refused("ProvisionedThroughputExceededException"):
            put(core)
        clock.advance(1)
        put(core)

    def test_refused_records_of_a_batch_say_why(self, core: LocalKinesisCore) -> None:
        batch = [{"Data": b"x" * (400 * 1024), "PartitionKey": "k"}] * 3
        answer = core.call("PutRecords", StreamName=STREAM, Records=batch)
        assert answer["FailedRecordCount"] == 1
        assert answer["Records"][2] == {
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": f"Rate exceeded for shard {SHARD} in stream {STREAM} "
            f"under account 000000000000.",
        }
        assert len(read(core)) == 2

    def test_other_shards_of_a_batch_are_not_held_up(self, core: LocalKinesisCore) -> None:
        core.call("CreateStream", StreamName="two", ShardCount=2)
        records = [
            {"Data": b"x" * (600 * 1024), "PartitionKey": "k", "ExplicitHashKey": hash_key}
            for hash_key in ("0", "0", str(2**128 - 1))
        ]
        answer = core.call("PutRecords", StreamName="two", Records=records)
        assert ["ErrorCode" in record for record in answer["Records"]] == [False, True, False]

    def test_a_shard_is_read_five_times_a_second(
        self, core: LocalKinesisCore, clock: Clock
    ) -> None:
        for _ in range(2):
            for _ in range(5):
                read(core)
            for wait_s in (0, 0.999):
                clock.advance(wait_s)
                with refused("ProvisionedThroughputExceededException"):
                    read(core)
            clock.advance(0.001)

    def test_steady_reading_at_the_limit_is_never_refused(
        self, core: LocalKinesisCore, clock: Clock
    ) -> None:
        for _ in range(50):
            read(core)
            clock.advance(0.2)

    def test_ten_mib_read_at_once_shut_a_shard_for_five_seconds(
        self, core: LocalKinesisCore, clock: Clock
    ) -> None:
        core.throttling = False
        for _ in range(10):
            put(core, b"x" * (MIB - 3))
        core.throttling = True
        assert len(read(core)) == 10
        for _ in range(4):
            clock.advance(1)
            with refused("ProvisionedThroughputExceededException"):
                read(core)
        clock.advance(1)
        assert len(read(core)) == 10

    def test_two_mib_a_second_go_out(self, core: LocalKinesisCore, clock: Clock) -> None:
        core.throttling = False
        put(core, b"x" * (MIB - 3))
        core.throttling = True
        read(core)
        read(core)
        with refused("ProvisionedThroughputExceededException"):
            read(core)
        clock.advance(1)
        read(core)

    def test_throttling_is_off_unless_asked_for(self, core: LocalKinesisCore) -> None:
        core.throttling = False
        for _ in range(50):
            read(core)
        for _ in range(5):
            put(core, b"x" * (MIB - 3))
