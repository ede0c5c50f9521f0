"""Looking at stored states from the command line, and exporting them."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamproc.cli.main import app
from streamproc.cli.state_files import Format, open_writer
from streamproc.errors import ConfigError, StateStoreError, StreamprocError
from tests.shelves import GROUP, Sold, sell

SALES = [Sold("1", "shoe", "berlin", 3), Sold("2", "shoe", "paris", 2), Sold("3", "a|b", "x,y")]


async def command(url: str, *arguments: str) -> Result:
    """Run a command as the group's operator; raise what it raised."""
    flags = ["--set", f"group={GROUP}", "--set", "stream.name=sales", "--set", f"redis.url={url}"]

    def invoke() -> Result:
        result = CliRunner().invoke(app, ["state", *arguments, *flags], env={"COLUMNS": "200"})
        if result.exception is not None:
            raise result.exception
        return result

    return await asyncio.to_thread(invoke)


async def test_get_prints_state_and_counters_of_a_key(redis_url: str) -> None:
    await sell(redis_url, *SALES)
    found = json.loads((await command(redis_url, "get", "shelves", "shoe", "berlin")).stdout)
    assert (found["key"], found["state"]) == (["shoe", "berlin"], {"sold": 3})
    found = json.loads((await command(redis_url, "get", "shelves", "shoe", "all")).stdout)
    assert found["counters"] == {
        "values": {"sold": 5},
        "buckets": {"by-day": {"7": 5}},
        "distinct": {"places": 2},
    }
    assert "state" not in found


async def test_get_says_what_to_do_when_there_is_nothing(redis_url: str) -> None:
    with pytest.raises(StreamprocError, match=r"nothing of shelves under shoe rome; .*state scan"):
        await command(redis_url, "get", "shelves", "shoe", "rome")


async def test_scan_lists_what_matches_up_to_a_limit(redis_url: str) -> None:
    await sell(redis_url, *SALES)
    shown = await command(redis_url, "scan", "shelves", "--match", "shoe|[bp]*")
    assert 'shoe|berlin  {"sold":3}' in shown.stdout
    assert 'shoe|paris   {"sold":2}' in shown.stdout
    assert shown.stderr == ""
    found = json.loads((await command(redis_url, "scan", "shelves", "--json")).stdout)
    assert len(found) == 5
    limited = await command(redis_url, "scan", "shelves", "--json", "--limit", "2")
    assert len(json.loads(limited.stdout)) == 2
    assert "more than 2" in limited.stderr


def rows_of(path: Path, file_format: str) -> list[dict[str, Any]]:
    """Return the rows of an export, by any format, with `value` decoded."""
    if file_format == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["key"] = "|".join(part.replace("|", "%7C") for part in row["key"])
        return rows
    if file_format == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows = [{**row, "version": int(row["version"]), "schema": int(row["schema"])}
                for row in rows]  # fmt: skip
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(path).to_pylist()
    return [{**row, "value": json.loads(row["value"])} for row in rows]


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
async def test_every_format_has_the_same_rows(
    redis_url: str, tmp_path: Path, file_format: str
) -> None:
    await sell(redis_url, *SALES)
    path = tmp_path / f"shelves.{file_format}"
    done = await command(
        redis_url, "export", "shelves", "--format", file_format, "--out", str(path)
    )
    assert f"wrote 5 keys to {path}" in done.stderr
    rows = {(row["kind"], row["key"]): row for row in rows_of(path, file_format)}
    assert {key: row["value"] for key, row in rows.items() if key[0] == "state"} == {
        ("state", "shoe|berlin"): {"sold": 3},
        ("state", "shoe|paris"): {"sold": 2},
        ("state", "a%7Cb|x,y"): {"sold": 1},
    }
    assert rows["counters", "shoe|all"]["value"]["distinct"] == {"places": 2}
    assert {row["schema"] for row in rows.values()} == {1}
    assert all(row["version"] > 0 for row in rows.values())
    assert os.listdir(tmp_path) == [path.name]


async def test_an_export_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "shelves.jsonl"
    path.write_text("old")
    with pytest.raises(StateStoreError):
        await command("redis://127.0.0.1:1/0", "export", "shelves", "--out", str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


async def test_an_export_can_go_to_standard_output(redis_url: str) -> None:
    await sell(redis_url, *SALES[:1])
    done = await command(redis_url, "export", "shelves", "--out", "-", "--match", "shoe|berlin")
    assert json.loads(done.stdout)["value"] == {"sold": 3}


async def test_a_place_that_cannot_be_written_is_named(redis_url: str, tmp_path: Path) -> None:
    out = str(tmp_path / "missing" / "file")
    with pytest.raises(ConfigError, match=f"--out {out}: No such file"):
        await command(redis_url, "export", "shelves", "--out", out)
    with pytest.raises(ConfigError, match="parquet is written to a file"):
        await command(redis_url, "export", "shelves", "--format", "parquet", "--out", "-")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'streamproc\[parquet\]'"),
        open_writer(Format.parquet, tmp_path / "x.parquet"),
    ):
        pass
    assert os.listdir(tmp_path) == []
