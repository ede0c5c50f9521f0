"""The live table, and plain lines where there is no terminal."""

from __future__ import annotations

from collections import deque
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamproc_benchmarks.demo.board import ShardRow
from streamproc_benchmarks.demo.view import View, WorkerRow, shard_name

__all__ = ["LiveScreen", "PlainScreen", "render"]

_NEWS_SHOWN: Final = 8
_PLAIN_EVERY_S: Final = 2.0
_LAG_WARNING_MS: Final = 1_000


class PlainScreen:
    """Prints what happens, and a line of numbers every two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = -_PLAIN_EVERY_S

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, view: View) -> None:
        """Print the numbers if two seconds have passed."""
        if view.elapsed_s - self._printed < _PLAIN_EVERY_S:
            return
        self._printed = view.elapsed_s
        lag = max((row.lag_ms or 0 for row in view.shards), default=0)
        self._line(
            view.elapsed_s,
            f"published {view.published:,}, behind {sum(view.behind.values()):,}, "
            f"{sum(row.rate for row in view.shards):,.0f}/s, lag {lag:,} ms, "
            f"{sum(row.duplicates for row in view.shards):,} dup, "
            f"{sum(row.dead_letters for row in view.shards)} dead, "
            f"{view.flagged} fraud, {view.oversold} oversold",
        )

    def say(self, elapsed_s: float, text: str) -> None:
        """Print what happened."""
        self._line(elapsed_s, f"* {text}")

    def _line(self, elapsed_s: float, text: str) -> None:
        self._console.print(
            f"{elapsed_s:5.1f} s  {text}", highlight=False, markup=False, soft_wrap=True
        )


class LiveScreen:
    """Draws the state over itself, several times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._news: deque[tuple[float, str]] = deque(maxlen=_NEWS_SHOWN)
        self._view: View | None = None

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        """Draw."""
        self._view = view
        self._live.update(render(view, list(self._news)), refresh=True)

    def say(self, elapsed_s: float, text: str) -> None:
        """Add a line to what happened."""
        self._news.append((elapsed_s, text))
        if self._view is not None:
            self.show(self._view)
        else:
            self._live.update(_news(list(self._news)), refresh=True)


def render(view: View, news: list[tuple[float, str]]) -> RenderableType:
    """Return the whole picture; it fits 80 columns."""
    return Panel(
        Group(
            _progress(view),
            _workers(view.workers),
            Text(),
            _shards(view),
            Text(),
            _processors(view),
            Text(),
            _news(news),
        ),
        title=Text(f"streamproc demo: {view.stage}", "bold"),
        title_align="left",
        subtitle=f"{view.elapsed_s:.0f} s",
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
        padding=(0, 1),
    )


def _progress(view: View) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(
        Text.assemble(
            "published ", (f"{view.published:,}", "bold"), f" of {view.size:,}   ",
            "committed ", (f"{view.committed:,}", "bold"),
        ),
        ProgressBar(total=max(1, view.size), completed=view.published),
    )  # fmt: skip
    return grid


def _workers(workers: list[WorkerRow]) -> Text:
    text = Text("workers   ")
    for worker in workers:
        mark, style = ("✗", "bold red") if worker.is_dead else ("●", "green")
        text.append(f"{mark} {worker.name} ", style)
        text.append(f"pid {worker.pid}, {worker.state}   ", "dim" if worker.is_dead else "")
    return text


def _shards(view: View) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=True, show_edge=False)
    table.add_column("shard", no_wrap=True)
    table.add_column("owner", no_wrap=True, ratio=1, min_width=14)
    for name in ("records/s", "lag ms", "behind", "duplicates", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    dead = {worker.name for worker in view.workers if worker.is_dead}
    for row in view.shards:
        table.add_row(*_shard_cells(row, view.behind.get(row.shard_id, 0), row.owner in dead))
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{sum(row.rate for row in view.shards):,.0f}",
        "",
        f"{sum(view.behind.values()):,}",
        f"{sum(row.duplicates for row in view.shards):,}",
        f"{sum(row.dead_letters for row in view.shards):,}",
        style="bold",
    )
    return table


def _shard_cells(row: ShardRow, behind: int, is_orphan: bool) -> list[Text]:
    if row.is_closed:
        owner = Text("split, ended", "dim")
    elif is_orphan or row.owner is None:
        owner = Text(f"{row.owner or 'nobody'}, dead" if is_orphan else "nobody yet", "bold red")
    else:
        owner = Text(row.owner)
    late = row.lag_ms is not None and row.lag_ms >= _LAG_WARNING_MS
    return [
        Text(shard_name(row.shard_id)),
        owner,
        Text("" if row.is_closed else f"{row.rate:,.0f}"),
        Text("-" if row.lag_ms is None else f"{row.lag_ms:,}", "yellow" if late else ""),
        Text(f"{behind:,}", "yellow" if behind > 1_000 else ""),
        Text(f"{row.duplicates:,}"),
        Text(f"{row.dead_letters:,}"),
    ]


def _processors(view: View) -> Table:
    grid = Table.grid(padding=(0, 2))
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(view.reasons.items()))
    grid.add_row(
        Text("fraud", "bold"), Text(f"{view.flagged:,} alerts"), Text(reasons or "-", "dim")
    )
    grid.add_row(
        Text("inventory", "bold"),
        Text(f"{view.oversold_alerts:,} alerts"),
        Text(f"{view.oversold:,} oversold SKUs (SKU and location)", "dim"),
    )
    return grid


def _news(news: list[tuple[float, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True, style="dim")
    for elapsed_s, text in news[-_NEWS_SHOWN:]:
        grid.add_row(f"{elapsed_s:.1f} s", Text(text))
    return grid
