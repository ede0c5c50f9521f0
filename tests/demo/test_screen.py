"""What is shown: every fact, within 80 columns, also while a worker is dead."""

from __future__ import annotations

import io
from collections import Counter

from msgspec.structs import replace
from rich.console import Console

from streamproc_benchmarks.demo.board import ShardRow
from streamproc_benchmarks.demo.screen import LiveScreen, PlainScreen, render
from streamproc_benchmarks.demo.view import View, WorkerRow


def shard(number: int, owner: str | None, *, lag_ms: int | None, closed: bool = False) -> ShardRow:
    return ShardRow(
        shard_id=f"shardId-{number:012}",
        owner=owner,
        is_closed=closed,
        rate=543.2,
        lag_ms=lag_ms,
        records=12_345,
        duplicates=1_234,
        dead_letters=99,
    )


VIEW = View(
    stage="2,000 events/s",
    elapsed_s=12.3,
    published=24_680,
    size=40_360,
    committed=23_456,
    workers=[
        WorkerRow("worker-1", 41, "killed", True),
        WorkerRow("worker-2", 42, "running", False),
    ],
    shards=[
        shard(0, "worker-2", lag_ms=12_345),
        shard(1, "worker-1", lag_ms=None),
        shard(2, None, lag_ms=None, closed=True),
        shard(3, None, lag_ms=None),
    ],
    behind={"shardId-000000000001": 1_777},
    flagged=321,
    reasons=Counter({"velocity": 123, "amount-limit": 45, "spend-ratio": 153}),
    oversold_alerts=14,
    oversold=11,
)


def drawn(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(render(VIEW, [(10.1, "KILLED worker-1")]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_picture_fits_eighty_columns_uncut() -> None:
    text = drawn(80)

    assert max(len(line) for line in text.splitlines()) == 80
    assert "…" not in text


def test_the_picture_shows_each_shard_worker_and_processor() -> None:
    lines = [" ".join(line.strip("│ ").split()) for line in drawn(80).splitlines()]

    assert "shard 0 worker-2 543 12,345 0 1,234 99" in lines
    assert "shard 1 worker-1, dead 543 - 1,777 1,234 99" in lines
    assert "shard 2 split, ended - 0 1,234 99" in lines
    assert "shard 3 nobody yet 543 - 0 1,234 99" in lines
    assert "workers ✗ worker-1 pid 41, killed ● worker-2 pid 42, running" in lines
    assert "fraud 321 alerts amount-limit 45, spend-ratio 153, velocity 123" in lines
    assert "inventory 14 alerts 11 oversold SKUs (SKU and location)" in lines
    assert "10.1 s KILLED worker-1" in lines


def test_plain_lines_come_every_two_seconds_and_news_at_once() -> None:
    console = Console(file=io.StringIO(), width=80)
    with PlainScreen(console) as screen:
        for tenth in range(45):
            screen.show(replace(VIEW, elapsed_s=tenth / 10))
            if tenth == 5:
                screen.say(0.5, "something [bold] happened")

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line[:7] for line in lines] == ["  0.0 s", "  0.5 s", "  2.0 s", "  4.0 s"]
    assert lines[1] == "  0.5 s  * something [bold] happened"
    assert "published 24,680, behind 1,777, 2,173/s, lag 12,345 ms, 4,936 dup, 396 dead" in lines[0]


def test_the_live_screen_leaves_its_last_picture_and_news() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with LiveScreen(console) as screen:
        screen.say(0.1, "before the first picture")
        screen.show(VIEW)
        screen.say(9.9, "the end")

    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue().rpartition("╭")[2]
    assert "before the first picture" in last
    assert "the end" in last
