"""The reference world: the published rows, and its way into files and onto streams."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamproc import ConfigError
from streamproc.testing import LocalKinesis
from streamproc_fraud.commands import app
from streamproc_fraud.events import FraudLabelConfirmed
from streamproc_fraud.world.events import world_events
from streamproc_fraud.world.parquet import read_parquet, write_parquet
from streamproc_fraud.world.publish import kinesis_client, publish, records_of
from streamproc_fraud.world.simulator import DAY, Transactions, World, simulate

SMALL = ["--customers", "160", "--terminals", "320", "--world-days", "60", "--radius", "28"]


def test_the_world_is_the_published_one(world: Transactions) -> None:
    assert len(world.t) == 1_754_155
    assert int(world.fraud.sum()) == 14_681
    assert np.bincount(world.scenario).tolist() == [1_739_474, 973, 9_077, 4_631]
    assert len(np.unique(world.customer)) == 4_990
    # The first rows, as published: second, customer, terminal, cents.
    rows = [tuple(int(column[row]) for column in world[:4]) for row in range(3)]
    assert rows == [(31, 596, 3_156, 5_716), (130, 4_961, 3_412, 8_151), (476, 2, 1_365, 14_600)]


def test_every_row_equals_the_published_files(world: Transactions, shared_data: Path) -> None:
    published = read_parquet(shared_data / "tx_2018-04_to_08.parquet")
    count = len(published.t)
    assert count > 1_400_000
    for name in Transactions._fields:
        differences = int((getattr(published, name) != getattr(world, name)[:count]).sum())
        assert differences == 0, name


def test_no_genuine_payment_is_large(world: Transactions) -> None:
    assert not (world.amount_cents[~world.fraud] > 22_000).any()


def test_a_small_world_is_the_same_each_time(small_world: Transactions) -> None:
    again = simulate(World(customers=160, terminals=320, days=60, radius=28.0))
    assert all((one == other).all() for one, other in zip(small_world, again, strict=True))
    assert set(np.unique(small_world.scenario)) >= {0, 2, 3}
    assert (np.diff(small_world.t) >= 0).all()


def test_a_world_without_terminals_in_reach_is_empty() -> None:
    assert len(simulate(World(customers=5, terminals=2, days=3, radius=0)).t) == 0


def test_labels_come_seven_days_later_and_before_payments_of_that_second(
    small_world: Transactions,
) -> None:
    events = list(world_events(small_world))
    assert [t for t, _, _ in events] == sorted(t for t, _, _ in events)
    labels = [(t, row) for t, row, event in events if isinstance(event, FraudLabelConfirmed)]
    last = int(small_world.t[-1])
    due = [row for row in small_world.fraud.nonzero()[0] if small_world.t[row] + 7 * DAY <= last]
    assert labels == [(int(small_world.t[row]) + 7 * DAY, row) for row in due]
    at: dict[int, list[bool]] = {}
    for t, _, event in events:
        at.setdefault(t, []).append(isinstance(event, FraudLabelConfirmed))
    assert all(kinds == sorted(kinds, reverse=True) for kinds in at.values())


def test_duplicates_carry_the_same_business_id_in_a_new_envelope(
    small_world: Transactions,
) -> None:
    part = small_world.between(0, 20)
    once = list(records_of(part))
    many = list(records_of(part, duplicates=0.1))
    repeats = [record for record in many if record.is_duplicate]
    assert len(many) == len(once) + len(repeats)
    assert 0.08 < len(repeats) / len(once) < 0.12
    data = [msgspec.json.decode(r.data) for r in many if b"PaymentAuthorized" in r.data]
    envelopes = Counter(each["id"] for each in data)
    assert max(envelopes.values()) == 1
    payments = Counter(each["data"]["payment_id"] for each in data)
    assert max(payments.values()) == 2
    # An original comes before its repetition.
    seen: set[Any] = set()
    for record in many:
        key = msgspec.json.encode(msgspec.json.decode(record.data)["data"])
        assert (key in seen) == record.is_duplicate
        seen.add(key)


def test_parquet_keeps_every_column(small_world: Transactions, tmp_path: Path) -> None:
    path = tmp_path / "world.parquet"
    write_parquet(small_world, path)
    again = read_parquet(path)
    assert all((one == other).all() for one, other in zip(small_world, again, strict=True))


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="cannot be read as parquet"):
        read_parquet(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"t": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match="no column amount_cents, customer, terminal"):
        read_parquet(tmp_path / "b.parquet")
    columns = {name: [1, 1] for name in ("customer", "terminal", "amount_cents")}
    pyarrow.parquet.write_table(pyarrow.table({"t": [2, 1], **columns}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="not in the order of their time"):
        read_parquet(tmp_path / "c.parquet")


async def test_every_record_is_put_at_a_rate_also_when_some_are_refused(
    small_world: Transactions,
) -> None:
    records = list(records_of(small_world.between(0, 8)))[:1_500]
    async with LocalKinesis(throttling=True) as kinesis:
        kinesis.core.call("CreateStream", StreamName="s", ShardCount=1)
        async with kinesis_client(kinesis.endpoint_url, "us-east-1") as client:
            started = time.monotonic()
            assert await publish(client, "s", records, rate=3_000) == 1_500
            assert time.monotonic() - started >= 0.45
            found = await read_all(client, len(records))
    assert Counter((r["PartitionKey"], r["Data"]) for r in found) == Counter(
        (r.partition_key, r.data) for r in records
    )


async def read_all(client: Any, count: int) -> list[Any]:
    iterator = await client.get_shard_iterator(
        StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )
    at, found = iterator["ShardIterator"], []
    while len(found) < count:
        answer = await client.get_records(ShardIterator=at)
        found += answer["Records"]
        at = answer["NextShardIterator"]
        await asyncio.sleep(0.25)  # five reads a second are allowed
    return found


def test_the_command_writes_parquet(tmp_path: Path) -> None:
    path = tmp_path / "world.parquet"
    done = CliRunner().invoke(app, ["simulate", "--out", str(path), "--first-day", "10",
                                    "--days", "5", *SMALL])  # fmt: skip
    assert done.exit_code == 0, done.output
    made = read_parquet(path)
    assert (int(made.t[0]) // DAY, int(made.t[-1]) // DAY) == (10, 14)
    assert f"{len(made.t):,} payments" in done.output


def test_the_command_wants_one_destination() -> None:
    done = CliRunner().invoke(app, ["simulate"])
    assert isinstance(done.exception, ConfigError)
