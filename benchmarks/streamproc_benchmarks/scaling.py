"""How the rate grows with worker processes: what was measured, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from rich.console import Console

from streamproc_benchmarks.charts import Chart, SpreadChart
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.tables import new_table, show_spread

__all__ = ["ProcessorName", "Scaling", "ScalingPlan", "ScalingRound", "print_scaling"]

ProcessorName = Literal["computing", "fraud", "inventory", "noop"]

_NEAR_LINEAR: Final = 0.9
_BUSY: Final = 0.85
# Of the workers' cores all together: servers on them that take no more lower an efficiency by no
# more, so one that reaches the bar all the same has reached it.
_LITTLE: Final = 0.05
# Likewise, of programs that are no part of the benchmark: they may raise an efficiency, too.
_DISTURBED: Final = 0.05


class ScalingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `records` for each worker, teams of 1 to `workers` of them, one processor.

    Attributes:
        turn: seconds that a team works before the next one does.
        limit: seconds that a round may take.
    """

    processor: ProcessorName
    workers: int
    records: int
    rounds: int
    turn: float
    shards: int
    seed: int
    limit: float


class ScalingRound(msgspec.Struct, frozen=True, kw_only=True):
    """What one team did in its turns of one round.

    Attributes:
        turns: how many of them counted: every worker of every team was at work in them.
        rate: records a second by the clock, all workers together.
        cpu_us: CPU time of the workers for a record, in microseconds.
        worker_cores: cores that the workers used, all together.
        delayed_cores: cores that they could have used but others had; None where it is not told.
        server_cores: cores that LocalKinesis and Redis used meanwhile; None likewise.
        driver_cores: cores that the benchmark's own process used meanwhile.
    """

    turns: int
    rate: float
    cpu_us: float
    worker_cores: float
    delayed_cores: float | None
    server_cores: float | None
    driver_cores: float

    def left(self, workers: int) -> float:
        """Return the cores that nobody kept from the workers."""
        return workers - (self.delayed_cores or 0.0)

    def disturbance(self) -> float:
        """Return the cores that others than the benchmark's processes kept from the workers."""
        ours = (self.server_cores or 0.0) + self.driver_cores
        return max(0.0, (self.delayed_cores or 0.0) - ours)


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Every round by number of workers, and whether the servers had cores of their own."""

    plan: ScalingPlan
    servers_apart: bool
    rounds: dict[int, list[ScalingRound]]

    def efficiency(self, workers: int) -> list[float]:
        """Return the rate against as many times that of one worker, round by round."""
        return [
            many.rate / (workers * one.rate)
            for many, one in zip(self.rounds[workers], self.rounds[1], strict=True)
        ]

    def efficiency_of_the_rest(self, workers: int) -> list[float]:
        """Return it by the cores that others left to the workers, as if these had been all."""
        return [
            many.rate / many.left(workers) / (one.rate / one.left(1))
            for many, one in zip(self.rounds[workers], self.rounds[1], strict=True)
        ]

    def figures(self) -> list[Figure]:
        """Rate and CPU time by number of workers, and both efficiencies of each but one."""
        found = [
            self._figure(workers, name, unit, better, [getattr(each, name) for each in rounds])
            for workers, rounds in self.rounds.items()
            for name, unit, better in _FIGURES
        ]
        for workers in self.rounds:
            if workers > 1:
                rest = self.efficiency_of_the_rest(workers)
                found += [
                    self._figure(workers, "efficiency", "", "more", self.efficiency(workers)),
                    self._figure(workers, "efficiency_of_the_rest", "", "more", rest),
                ]
        return found

    def bars(self) -> list[Bar]:
        """That two workers do nearly what one does, twice, whatever others took of their cores.

        Judged where the servers have a core of their own, or take next to nothing of the workers',
        and no other program had them.
        """
        if 2 not in self.rounds:
            return []
        return [
            Bar(
                what=f"{self.plan.processor}: 2 workers / 2 x one worker",
                better="more",
                limit=_NEAR_LINEAR,
                values=self.efficiency(2),
                unjudged=self._sharing_matters or self._disturbed,
            )
        ]

    def charts(self) -> list[Chart]:
        """Return the rates by number of workers."""
        rows = {f"{n} workers": [each.rate for each in runs] for n, runs in self.rounds.items()}
        title = f"Rate by worker processes, {self.plan.processor}"
        return [SpreadChart(title=title, unit="records/s", rows=rows)]

    def caveats(self) -> list[str]:
        """Say what others took of the workers' cores, and whether a worker waited for answers."""
        found = [] if self.servers_apart else [f"{self._sharing}."]
        if self._disturbed:
            found.append(f"{self._disturbed}: run it again on a quiet machine.")
        busy = min(
            (each.worker_cores + (each.delayed_cores or 0.0)) / workers
            for workers, runs in self.rounds.items()
            for each in runs
        )
        if busy < _BUSY:
            found.append(
                f"The workers had something to do for {busy:.0%} of the time in one of the rounds: "
                "else they waited for the servers' answers."
            )
        return found

    def _figure(
        self,
        workers: int,
        name: str,
        unit: str,
        better: Literal["more", "less"],
        values: list[float],
    ) -> Figure:
        return Figure(
            name=f"scaling.{self.plan.processor}.{workers}.{name}",
            unit=unit,
            better=better,
            values=values,
            caveat=self._sharing_matters,
        )

    @property
    def _disturbed(self) -> str:
        """Return that other programs had the workers' cores, if they did in a median round."""
        for workers, runs in self.rounds.items():
            share = spread([each.disturbance() / workers for each in runs]).median
            if share >= _DISTURBED:
                return f"Other programs had {share:.0%} of the cores of {workers} workers"
        return ""

    @property
    def _shares(self) -> list[float]:
        """Cores that the servers took while most workers ran, in each round that tells."""
        told = [each.server_cores for each in self.rounds[max(self.rounds)]]
        return [] if None in told else [share for share in told if share is not None]

    @property
    def _sharing(self) -> str:
        most = max(self.rounds)
        took = f", of which they took {max(self._shares):.0%} of a core" if self._shares else ""
        return f"LocalKinesis and Redis share the cores of the {most} workers{took}"

    @property
    def _sharing_matters(self) -> str:
        little = self._shares and max(self._shares) <= _LITTLE * max(self.rounds)
        return "" if self.servers_apart or little else self._sharing


_FIGURES: Final[tuple[tuple[str, str, Literal["more", "less"]], ...]] = (
    ("rate", "records/s", "more"),
    ("cpu_us", "us", "less"),
)


def print_scaling(result: Scaling, console: Console) -> None:
    """Print it."""
    plan = result.plan
    turns = [each.turns for each in result.rounds[1]]
    table = new_table(
        f"Worker processes on a stream of {plan.shards} shards, {plan.processor}: "
        f"{min(turns)} to {max(turns)} turns of {plan.turn:g} s in each of {len(turns)} rounds",
        [
            "records/s", "efficiency", "of the rest", "CPU us/record",
            "workers' cores", "kept from them", "servers' cores",
        ],
        subject="workers",
    )  # fmt: skip
    for workers, runs in result.rounds.items():
        table.add_row(
            str(workers),
            show_spread([each.rate for each in runs], ",.0f"),
            show_spread(result.efficiency(workers), ".3f"),
            show_spread(result.efficiency_of_the_rest(workers), ".3f"),
            show_spread([each.cpu_us for each in runs], ".1f"),
            show_spread([each.worker_cores for each in runs], ".3f"),
            _show_told([each.delayed_cores for each in runs]),
            _show_told([each.server_cores for each in runs]),
        )
    console.print(table)
    console.print(
        "Efficiency is the rate against as many times that of one worker; of the rest, by the "
        "cores that were left when those are taken away that others, the servers among them, had "
        f"while a worker could have used them. {_driver(result)}"
    )


def _driver(result: Scaling) -> str:
    most = max(each.driver_cores for runs in result.rounds.values() for each in runs)
    return f"The benchmark's own process used {most:.3f} cores at most."


def _show_told(values: Sequence[float | None]) -> str:
    told = [value for value in values if value is not None]
    return show_spread(told, ".3f") if told else "?"
