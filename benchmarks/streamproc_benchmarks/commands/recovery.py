"""`streamproc bench recovery`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc.errors import ConfigError
from streamproc_benchmarks.options import (
    BarsOption,
    JsonOption,
    OutOption,
    SeedOption,
    ShardsOption,
    checked_settings,
    chosen,
    say,
)

__all__ = ["recovery"]


def recovery(
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", help="kill, stop, redis, split or merge; repeatable. [default: all]"
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Records a second to offer.", min=1)] = 5_000,
    rounds: Annotated[int, typer.Option(help="Rounds; events take turns.", min=1)] = 3,
    shards: ShardsOption = 4,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=2)] = 2,
    settle: Annotated[
        float, typer.Option(help="Seconds of steady load before the event.", min=0.2)
    ] = 5,
    limit: Annotated[
        float, typer.Option(help="Seconds after the event that recovery may take.", min=1)
    ] = 60,
    redis_away: Annotated[
        float, typer.Option(help="Seconds that Redis stays away when it is killed.", min=0)
    ] = 2,
    seed: SeedOption = 1,
    out: OutOption = None,
    json: JsonOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Disturb a group of workers under a steady load: seconds until lag is as it was."""
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.recovery import RecoveryPlan, measure_recovery, print_recovery
    from streamproc_benchmarks.recovery_round import EVENTS
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console

    if shards < workers:
        raise ConfigError(f"--shards {shards}: must be at least --workers {workers}")
    settings = checked_settings(assignments)
    plan = RecoveryPlan(
        events=chosen("--event", event, EVENTS),
        rate=rate,
        shards=shards,
        workers=workers,
        rounds=rounds,
        seed=seed,
        settle=settle,
        limit=limit,
        redis_away=redis_away,
        settings=settings,
    )
    output, console = Output(out, json, judge=bars), new_console()
    environment, found = run_loop(measure_recovery(plan, say))
    print_recovery(found, console)
    report = make_report(
        "recovery", found, print_recovery, environment, seed=seed, settings=settings
    )
    output.conclude([report], console)
