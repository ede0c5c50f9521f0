"""The process beside a peer: it reads what a peer says and writes an account like our own."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

import streamproc_benchmarks.peers
from streamproc.testing import LocalKinesis
from streamproc_benchmarks.peers.attendant import PeerSpec, located, parse_account
from streamproc_benchmarks.peers.installation import Prepared
from streamproc_benchmarks.processes import ChildFailed, Go, start_child
from streamproc_benchmarks.progress import Consumed, DoneBatch, middle
from streamproc_benchmarks.verification import verify
from streamproc_benchmarks.workloads import make_entries
from tests.waiting import until

STREAM = "events"
SCRIPT = Path(streamproc_benchmarks.peers.__file__).with_name("async_kinesis_peer.py")

# Stands for the package: yields each event that the stream holds, read by the plain API.
FAKE_KINESIS = """\
import json, urllib.request, base64, http.client, os

class Consumer:
    def __init__(self, *, stream_name, endpoint_url, region_name, shard_fetch_rate):
        self.stream, self.host = stream_name, endpoint_url.removeprefix("http://")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass

    def call(self, operation, **members):
        connection = http.client.HTTPConnection(self.host)
        connection.request("POST", "/", json.dumps(members), {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "Kinesis_20131202." + operation,
        })
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    async def __aiter__(self):
        for shard in self.call("ListShards", StreamName=self.stream)["Shards"]:
            iterator = self.call("GetShardIterator", StreamName=self.stream,
                ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
            records = self.call("GetRecords", ShardIterator=iterator)["Records"]
            for number, record in enumerate(records):
                if number == 3 and "LOSE" in os.environ:
                    continue
                yield json.loads(base64.b64decode(record["Data"]))
        if "LOSE" in os.environ:
            import asyncio
            await asyncio.sleep(3600)
"""


def fill(kinesis: LocalKinesis, count: int) -> dict[str, list[str]]:
    """Put events; return their sequence numbers by shard."""
    kinesis.core.call("CreateStream", StreamName=STREAM, ShardCount=2)
    published: dict[str, list[str]] = {}
    for entry in make_entries("events", count, seed=1):
        put = kinesis.core.call(
            "PutRecord",
            StreamName=STREAM,
            Data=entry.data,
            PartitionKey=entry.partition_key,
        )
        published.setdefault(put["ShardId"], []).append(put["SequenceNumber"])
    return published


def spec_of(
    kinesis: LocalKinesis,
    directory: Path,
    command: list[str],
    limit: float,
    turn: int | None = None,
) -> PeerSpec:
    return PeerSpec(
        prepared=Prepared(peer="async-kinesis", command=command, described="a fake"),
        core=None,
        attendant_core=None,
        endpoint_url=kinesis.endpoint_url,
        server_pid=None,
        redis_pid=None,
        stream=STREAM,
        window=middle(400, 0.25, turn),
        limit=limit,
        result=str(directory / "consumed"),
    )


def states_of_grandchildren() -> set[str]:
    """Return the states of the processes that this process's children started; T is stopped."""
    parents, states = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            # The command's name, in parentheses, may hold anything; fields are counted after it.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            states[process.name], parents[process.name] = fields[:2]
    return {state for pid, state in states.items() if parents.get(parents[pid]) == str(os.getpid())}


async def attended(spec: PeerSpec) -> None:
    async with start_child("peers.attendant", spec) as child:
        assert b"reading" in await child.line(30)
        assert b"done" in await child.line(30)


def account_of(spec: PeerSpec) -> Consumed:
    return msgspec.msgpack.decode(Path(spec.result).read_bytes(), type=Consumed)


@pytest.fixture
def fake_kinesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kinesis.py").write_text(FAKE_KINESIS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.process
@pytest.mark.usefixtures("fake_kinesis")
async def test_events_are_traced_to_their_records(
    local_kinesis: LocalKinesis, tmp_path: Path
) -> None:
    published = fill(local_kinesis, 400)
    command = [sys.executable, str(SCRIPT)]
    spec = spec_of(local_kinesis, tmp_path, command, limit=20)
    await attended(spec)
    consumed = account_of(spec)
    verdict = verify(published, consumed.by_shard())
    assert verdict.is_clean
    assert verdict.consumed == 400
    assert consumed.records == 200, "between a quarter and three quarters of 400"
    assert consumed.reading.wall > 0
    assert 0 < consumed.reading.own < consumed.reading.wall + 1


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.usefixtures("fake_kinesis")
async def test_a_peer_is_stopped_between_its_turns(
    local_kinesis: LocalKinesis, tmp_path: Path
) -> None:
    published = fill(local_kinesis, 400)
    command = [sys.executable, str(SCRIPT)]
    spec = spec_of(local_kinesis, tmp_path, command, limit=20, turn=150)
    async with start_child("peers.attendant", spec) as child:
        assert b"reading" in await child.line(30)
        for _ in range(2):
            assert b"turn" in await child.line(30)
            await until(lambda: "T" in states_of_grandchildren())
            await child.tell(Go())
        assert b"done" in await child.line(30)
    consumed = account_of(spec)
    assert verify(published, consumed.by_shard()).is_clean
    assert consumed.paused.wall > 0
    assert consumed.reading.wall + consumed.paused.wall == pytest.approx(
        consumed.ended.at - consumed.started.at
    )


@pytest.mark.process
@pytest.mark.usefixtures("fake_kinesis")
async def test_a_peer_that_loses_records_is_ended_and_its_losses_counted(
    local_kinesis: LocalKinesis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSE", "1")
    published = fill(local_kinesis, 400)
    command = [sys.executable, str(SCRIPT)]
    spec = spec_of(local_kinesis, tmp_path, command, limit=3)
    await attended(spec)
    consumed = account_of(spec)
    verdict = verify(published, consumed.by_shard())
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (2, 0, 0)


@pytest.mark.process
async def test_a_peer_that_fails_is_named_with_what_it_said(
    local_kinesis: LocalKinesis, tmp_path: Path
) -> None:
    fill(local_kinesis, 1)
    script = "import sys; print('broken beyond repair', file=sys.stderr); sys.exit(7)"
    spec = spec_of(local_kinesis, tmp_path, [sys.executable, "-c", script], limit=20)
    async with start_child("peers.attendant", spec) as child:
        with pytest.raises(ChildFailed) as failure:
            await child.line(30)
    assert "broken beyond repair" in str(failure.value)
    assert "async-kinesis ended with code 7" in str(failure.value)


def test_an_account_has_a_line_for_each_batch() -> None:
    text = textwrap.dedent("""\
        shard-0 1.5 1 2
        shard-1 2.25 7
    """)
    assert parse_account(text) == [
        DoneBatch("shard-0", 1.5, ["1", "2"]),
        DoneBatch("shard-1", 2.25, ["7"]),
    ]


def test_ids_that_no_record_has_stay_unknown() -> None:
    places = {"a": ("shard-0", "1"), "b": ("shard-0", "2"), "c": ("shard-1", "7")}
    found = located([DoneBatch("-", 1.0, ["a", "b", "c", "x", "a"])], places)
    assert found == [
        DoneBatch("shard-0", 1.0, ["1", "2"]),
        DoneBatch("shard-1", 1.0, ["7"]),
        DoneBatch("-", 1.0, ["x"]),
        DoneBatch("shard-0", 1.0, ["1"]),
    ]
    verdict = verify({"shard-0": ["1", "2"], "shard-1": ["7"]}, {"-": ["x"]})
    assert verdict.unknown == 1
