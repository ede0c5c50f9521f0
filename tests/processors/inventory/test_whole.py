"""The whole of it: a simulated day through Kinesis, a worker, Redis, HTTP, parquet and commands."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from streamproc import StateReader
from streamproc.config import HttpConfig
from streamproc.observability.http import serve
from streamproc.observability.metrics import worker_registry
from streamproc.state.keys import Keys
from streamproc.testing import Harness, LocalKinesis
from streamproc_inventory import InventoryProcessor, ReservationCreated
from streamproc_inventory.command import app
from tests.worker.group import Group

Books = dict[tuple[str, str], dict[str, str]]


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    async with Group(local_kinesis, redis_url, shards=3) as made:
        yield made


async def command(*arguments: str, code: int = 0) -> str:
    """Run `streamproc inventory ...` and return its output."""
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == code, result.output
    return result.output


async def ask(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, Any, str]:
    async with session.get(path, headers=headers) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if body else None, answer.headers.get("ETag", "")


def read_csv(path: Path) -> Books:
    with path.open(newline="") as file:
        return {(row["sku"], row["location_id"]): row for row in csv.DictReader(file)}


async def has_settled(reader: StateReader, books: Books) -> bool:
    """Whether every stock is what the books say, and nothing waits in the outbox."""
    await asyncio.sleep(0.2)  # a look costs the worker more than it waits
    if [event async for event in reader.outbox()]:
        return False
    found = {stored.key: stored.value async for stored in reader.scan("inventory")}
    names = ("committed", "incoming", "damaged", "quality_control", "safety_stock", "available")
    return {key: [level[name] for name in names] for key, level in found.items()} == {
        key: [int(row[name]) for name in names] for key, row in books.items()
    }


@pytest.mark.long
async def test_a_day_of_a_shop(group: Group, tmp_path: Path) -> None:
    place, csv_file = str(tmp_path / "ledger"), tmp_path / "books.csv"
    told = await command(
        "simulate", "--orders", "150", "--skus", "20", "--seed", "3", "--stock", str(csv_file),
        "--duplicates", "0.05", "--reordered", "0.2", "--gaps", "0.01", "--stream", group.stream,
        "--region", "us-east-1", "--endpoint-url", group.kinesis.endpoint_url,
    )  # fmt: skip
    assert "events and" in told
    books = await asyncio.to_thread(read_csv, csv_file)
    settings = {
        "group": group.name,
        "redis.url": group.redis_url,
        "outbox.sink": "inventory-ledger",
        "outbox.options.path": place,
    }
    common = [part for key, text in settings.items() for part in ("--set", f"{key}={text}")]
    worker = group.start(
        InventoryProcessor(gap_timeout=3_600),
        outbox__sink="inventory-ledger",
        outbox__options={"path": place},
    )
    async with StateReader(group.redis_url, group.name) as reader:
        await group.until(lambda: has_settled(reader, books), timeout=60)
    audited = await command("audit", "--counted", str(csv_file), *common)
    assert ": 0 differences" in audited

    (sku, location), row = max(books.items(), key=lambda each: int(each[1]["quantity"]))
    path = f"/inventory/{sku}/{location}"
    async with (
        serve(worker, HttpConfig(port=0), worker_registry(worker), worker.pages()) as server,
        aiohttp.ClientSession(str(server)) as session,
    ):
        status, stock, tag = await ask(session, path)
        assert (status, tag) == (200, f'"{stock["version"]}"')
        assert stock["on_hand"] == int(row["quantity"])
        assert (await ask(session, path, **{"If-None-Match": tag}))[0] == 304
        assert (await ask(session, path, **{"If-None-Match": '"0"'}))[0] == 200
        status, item, tag = await ask(session, f"/inventory/{sku}")
        assert status == 200
        assert {each["location_id"]: each for each in item["locations"]}[location] == stock
        assert item["total"]["on_hand"] == sum(
            int(each["quantity"]) for key, each in books.items() if key[0] == sku
        )
        assert (await ask(session, f"/inventory/{sku}", **{"If-None-Match": tag}))[0] == 304
        assert (await ask(session, "/inventory/nothing"))[0] == 404
        assert (await ask(session, f"/inventory/{sku}/nowhere"))[0] == 404
    await group.stop(worker)

    (shown,) = json.loads(await command("show", sku, location, "--json", *common))
    assert shown == stock
    entries = json.loads(await command("history", sku, location, "--json", *common))
    assert [each["version"] for each in entries] == list(range(1, stock["version"] + 1))[-50:]
    assert entries[-1]["on_hand_after"] == stock["on_hand"]
    watched = await command("watch", sku, location, "--times", "1", *common)
    assert json.loads(watched) == stock
    assert sku in await command("show", "--limit", "100", *common)
    assert "1 differences" in await command(
        "audit", "--counted", str(await asyncio.to_thread(one_more, csv_file)), *common, code=1
    )


@pytest.mark.long
async def test_reservations_expire_within_a_second(group: Group) -> None:
    # Only once the worker is there: one that was behind would rightly wait for its backlog.
    group.start(InventoryProcessor())
    await group.until(lambda: group.shards_adopted(3), timeout=60)
    async with Harness(InventoryProcessor()) as h:
        start = time.time()
        moments = [start + 4 + n / 100 for n in range(300)]
        events = [
            ReservationCreated(
                reservation_id=f"v{n}",
                sku=f"SKU-{n % 20}",
                location_id="W",
                quantity=1,
                expires_at=datetime.fromtimestamp(moment, UTC),
            )
            for n, moment in enumerate(moments)
        ]
        records = [h.record(event, time=start) for event in events]
    group.publish((record.partition_key, record.data) for record in records)
    expired: dict[str, float] = {}

    async def all_expired() -> bool:
        await asyncio.sleep(0.5)
        keys = Keys(group.name)
        for at, fields in await group.redis.xrange(keys.outbox):
            if fields[b"type"] == b"ReservationExpired":
                name = json.loads(fields[b"data"])["data"]["reservationId"]
                expired[name] = int(at.partition(b"-")[0]) / 1000
        return len(expired) == len(moments)

    await group.until(all_expired, timeout=60)
    late = sorted(expired[f"v{n}"] - moment for n, moment in enumerate(moments))
    assert late[0] > -0.002  # never early; Redis's clock and the entry's id are whole milliseconds
    assert late[int(len(late) * 0.99)] <= 1.0, late[-5:]


def one_more(books: Path) -> Path:
    """Write the books again, with a unit more of the first stock."""
    header, first, *others = books.read_text().splitlines()
    parts = first.split(",")
    parts[2] = str(int(parts[2]) + 1)
    changed = books.with_name("changed.csv")
    changed.write_text("\n".join([header, ",".join(parts), *others]) + "\n")
    return changed


async def test_a_day_is_written_to_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    file = tmp_path / "day.parquet"
    await command("simulate", "--orders", "20", "--skus", "5", "--parquet", str(file))
    rows = parquet.read_table(str(file)).to_pylist()
    assert json.loads(rows[0]["data"])["type"] == "StockReceived.v2"
    assert {row["is_again"] for row in rows} <= {True, False}
