"""`streamproc bench codec` and `streamproc bench windows`: single steps on one pinned core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamproc_benchmarks.options import JsonOption, OutOption, RoundsOption, SeedOption

if TYPE_CHECKING:
    from streamproc_benchmarks.steps import Steps

__all__ = ["codec", "windows"]


def codec(
    rounds: RoundsOption = 30,
    seed: SeedOption = 1,
    out: OutOption = None,
    json: JsonOption = None,
) -> None:
    """Measure single steps: parsing answers, decoding events, digests of ids."""
    from streamproc_benchmarks.codec import measure_steps

    _run(lambda: measure_steps(seed, rounds), seed, out, json)


def windows(
    rounds: RoundsOption = 10,
    seed: SeedOption = 1,
    out: OutOption = None,
    json: JsonOption = None,
) -> None:
    """Measure sliding windows: twelve fraud features a payment, and their parts."""
    from streamproc.cli.loop import calm_collector
    from streamproc_benchmarks.windows import measure_windows

    calm_collector()
    _run(lambda: measure_windows(seed, rounds), seed, out, json)


def _run(measure: Callable[[], Steps], seed: int, out: Path | None, json: Path | None) -> None:
    from streamproc_benchmarks.environment import read_environment
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.pinning import choose_cores, pin
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.steps import print_steps
    from streamproc_benchmarks.tables import new_console

    output, console = Output(out, json), new_console()
    cores = choose_cores()
    environment = read_environment(pinning=cores.note)
    pin(cores.consumer)
    steps = measure()
    print_steps(steps, console)
    report = make_report(steps.scenario, steps, print_steps, environment, seed=seed)
    output.conclude([report], console)
