"""What both soaks share: the process, the check of effects, memory as bar and chart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from streamproc_benchmarks.charts import Chart, LineChart
from streamproc_benchmarks.effects import Effects
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.memory import Growth, Memory
from streamproc_benchmarks.processes import start_child
from streamproc_benchmarks.soak_run import SoakSpec
from streamproc_benchmarks.statistics import thinned
from streamproc_benchmarks.verification import CountsWrong

__all__ = [
    "flat_bar",
    "line",
    "memory_chart",
    "played",
    "require_effects",
    "soak_figure",
    "verdict",
]

T = TypeVar("T")

_START_S: Final = 180.0
_DRAWN: Final = 1_000


def require_effects(what: str, effects: Effects, committed: int) -> None:
    """Let a run pass only if every committed record took effect once and in its key's order.

    Raises:
        CountsWrong: it did not; says how.
    """
    if effects.is_clean and effects.took_effect == committed:
        return
    raise CountsWrong(
        f"{what}: {committed} records committed, {effects.took_effect} took effect; "
        f"{effects.lost} lost, {effects.duplicated} duplicated, {effects.reordered} reordered; "
        "no figure is shown"
    )


async def played(spec: SoakSpec, result: type[T], seconds: float) -> T:
    """Have a process of its own carry out `spec`, which should take `seconds`.

    Raises:
        ChildFailed: it ended with an error, or took minutes longer.
    """
    async with start_child("soak_run", spec) as child:
        await child.line(_START_S + seconds)
    written = await asyncio.to_thread(Path(spec.result).read_bytes)
    return msgspec.msgpack.decode(written, type=result)


def verdict(growth: Growth) -> str:
    """Return in a sentence whether memory grew."""
    return (
        f"After the first third memory {'is flat' if growth.is_flat else 'GROWS'}: the line "
        f"through it rises by {growth.grown_mb:.2f} MB, while it scatters by "
        f"{growth.scatter_mb:.2f} MB."
    )


def soak_figure(name: str, unit: str, value: float, caveat: str) -> Figure:
    """Return a figure of which less is better."""
    return Figure(name=f"soak.{name}", unit=unit, better="less", values=[value], caveat=caveat)


def flat_bar(what: str, growth: Growth, unjudged: str = "") -> Bar:
    """Return the bar that memory is flat: it grows by no more than it scatters."""
    return Bar(
        what=f"{what}: growth of memory after a third (scatter)",
        better="less",
        limit=growth.scatter_mb,
        unit="MB",
        values=[growth.grown_mb],
        unjudged=unjudged,
    )


def memory_chart(title: str, memory: Memory, limits: dict[str, float]) -> Chart:
    """Draw resident memory over time, below its limits."""
    return LineChart(
        title=title,
        unit="MB",
        lines={"resident memory": line(memory.at, memory.rss_mb, 1.0)},
        limits=limits,
    )


def line(at: Sequence[float], values: Sequence[float], scale: float) -> list[tuple[float, float]]:
    """Return values, times `scale`, over time, as many as a page can show."""
    scaled = [value * scale for value in values]
    return thinned(list(zip(at, scaled, strict=True)), _DRAWN)
