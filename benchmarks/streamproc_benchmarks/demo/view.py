"""What the screen shows, as data, and who shows it."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import msgspec

from streamproc_benchmarks.demo.board import ShardRow

__all__ = ["Screen", "View", "WorkerRow", "shard_name"]


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker's name, process id and state; `is_dead` after its SIGKILL."""

    name: str
    pid: int
    state: str
    is_dead: bool


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of the run.

    Attributes:
        stage: what happens now.
        size: records that will be published, the opening included.
        behind: by shard, records that it took and that are not committed.
        reasons: fraud alerts by rule.
        oversold: stocks that sent an alert.
    """

    stage: str
    elapsed_s: float
    published: int
    size: int
    committed: int
    workers: list[WorkerRow]
    shards: list[ShardRow]
    behind: dict[str, int]
    flagged: int
    reasons: Counter[str]
    oversold_alerts: int
    oversold: int


class Screen(Protocol):
    """Shows a run while it goes on."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, view: View) -> None:
        """Show the present state; called several times a second."""
        ...

    def say(self, elapsed_s: float, text: str) -> None:
        """Tell what happened."""
        ...


def shard_name(shard_id: str) -> str:
    """Return ``shard 3`` for ``shardId-000000000003``."""
    return f"shard {int(shard_id.rpartition('-')[2])}"
