"""The table of the latency benchmark."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from streamproc_benchmarks.results import Latency
from streamproc_benchmarks.tables import new_table, show_spread

__all__ = ["print_latency"]


def print_latency(found: Latency, console: Console) -> None:
    """Print one row a consumer; an achieved rate that is not the offered one stands out."""
    table = new_table(
        f"Latency from intended send to commit: {found.seconds:g} s, {found.shards} shards, "
        f"{len(next(iter(found.rounds.values())))} rounds",
        ("offered/s", "achieved/s", "p50 ms", "p90 ms", "p99 ms", "max ms"),
    )
    for consumer, rounds in found.rounds.items():
        table.add_row(
            consumer,
            f"{found.offered:,.0f}",
            Text(
                show_spread([one.achieved for one in rounds], ",.0f"),
                style="" if all(one.reached for one in rounds) else "bold red",
            ),
            show_spread([one.p50_ms for one in rounds], ",.0f"),
            show_spread([one.p90_ms for one in rounds], ",.0f"),
            show_spread([one.p99_ms for one in rounds], ",.0f"),
            show_spread([one.max_ms for one in rounds], ",.0f"),
        )
    console.print(table)
    console.print(
        "Open loop: latency counts from when a record was meant to be sent. The first "
        f"{found.warm_up:g} s are left out of the percentiles."
    )
