"""The whole of it: a simulated day through Kinesis, two processes, Redis, HTTP and parquet."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamproc.testing import LocalKinesis
from tests.worker.group import Group

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    async with Group(local_kinesis, redis_url, shards=3) as made:
        yield made


async def run(*arguments: str, code: int | None = 0) -> str:
    """Run a command and return its output; None allows any exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamproc.cli.main", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert code is None or process.returncode == code, output.decode()
    return output.decode() if code is not None else f"{process.returncode} {output.decode()}"


def flags(settings: dict[str, Any]) -> list[str]:
    texts = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return [part for text in texts for part in ("--set", text)]


async def until_audited(*arguments: str) -> str:
    """Audit until there is no difference; return the last output."""
    async with asyncio.timeout(60):
        while True:
            found = await run("inventory", "audit", *arguments, code=None)
            if found.startswith("0 "):
                return found
            await asyncio.sleep(0.3)


@asynccontextmanager
async def running(settings: dict[str, Any]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamproc.cli.main", "run", *flags(settings), cwd=ROOT
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def ask(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, Any, str]:
    async with session.get(path, headers=headers) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if body else None, answer.headers.get("ETag", "")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def read_csv(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(row["sku"], row["location_id"]): row for row in csv.DictReader(file)}


@pytest.mark.process
async def test_a_day_of_a_shop(group: Group, tmp_path: Path) -> None:
    books, place, port = tmp_path / "books.csv", str(tmp_path / "ledger"), free_port()
    settings = group.settings() | {
        "processors.inventory.gap_timeout": 3_600,
        "outbox.sink": "inventory-ledger",
        "outbox.options.path": place,
        "http.port": port,
        "worker.processes": 2,
    }
    told = await run(
        "inventory", "simulate", "--orders", "150", "--skus", "20", "--seed", "3",
        "--duplicates", "0.05", "--reordered", "0.2", "--gaps", "0.01", "--stock", str(books),
        "--stream", group.stream, "--region", "us-east-1",
        "--endpoint-url", group.kinesis.endpoint_url,
    )  # fmt: skip
    assert "events and" in told
    common = flags({key: settings[key] for key in settings if key.split(".")[0] in
                    ("group", "redis", "outbox")})  # fmt: skip
    async with running(settings):
        found = await until_audited("--counted", str(books), *common)
        assert ": 0 differences" in found
        expected = read_csv(books)
        (sku, location), row = max(expected.items(), key=lambda each: int(each[1]["quantity"]))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            status, stock, tag = await ask(session, f"/inventory/{sku}/{location}")
            assert status == 200
            assert stock["on_hand"] == int(row["quantity"])
            for name in ("committed", "incoming", "damaged", "quality_control", "safety_stock"):
                assert stock[name] == int(row[name])
            assert tag == f'"{stock["version"]}"'
            path = f"/inventory/{sku}/{location}"
            assert (await ask(session, path, **{"If-None-Match": tag}))[0] == 304
            assert (await ask(session, path, **{"If-None-Match": '"0"'}))[0] == 200
            status, item, tag = await ask(session, f"/inventory/{sku}")
            assert status == 200
            places = {each["location_id"]: each for each in item["locations"]}
            assert places[location] == stock
            assert item["total"]["on_hand"] == sum(
                int(each["quantity"]) for key, each in expected.items() if key[0] == sku
            )
            assert (await ask(session, f"/inventory/{sku}", **{"If-None-Match": tag}))[0] == 304
            assert (await ask(session, "/inventory/nothing"))[0] == 404
            assert (await ask(session, f"/inventory/{sku}/nowhere"))[0] == 404
    (shown,) = json.loads(await run("inventory", "show", sku, location, "--json", *common))
    assert shown == stock
    entries = json.loads(await run("inventory", "history", sku, location, "--json", *common))
    assert [each["version"] for each in entries] == list(range(1, stock["version"] + 1))[-50:]
    assert entries[-1]["on_hand_after"] == stock["on_hand"]
    watched = await run("inventory", "watch", sku, location, "--times", "1", *common)
    assert json.loads(watched) == stock
    assert sku in await run("inventory", "show", "--limit", "100", *common)
