"""`streamproc bench throughput`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc_benchmarks.options import (
    AgainstOption,
    BarsOption,
    ConsumerOption,
    JsonOption,
    LimitOption,
    OutOption,
    RoundsOption,
    SeedOption,
    ShardsOption,
    checked_settings,
    chosen_consumers,
    chosen_peers,
    say,
)

if TYPE_CHECKING:
    from streamproc_benchmarks.environment import Environment
    from streamproc_benchmarks.throughput import Throughput
    from streamproc_benchmarks.throughput_run import ThroughputPlan

__all__ = ["throughput"]

_RECORDS = 200_000
_RECORDS_FOR_A_JVM = 400_000


def throughput(
    records: Annotated[
        int | None,
        typer.Option(
            help="Records to read in each run: 200,000 by default, and 400,000 with kcl, since a "
            "JVM compiles for the first 60,000 or so.",
            min=1,
        ),
    ] = None,
    rounds: RoundsOption = 5,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 300,
    consumer: ConsumerOption = None,
    against: AgainstOption = None,
    out: OutOption = None,
    json: JsonOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Read a stream that was filled before: records a second, and CPU time a record."""
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console
    from streamproc_benchmarks.throughput import print_throughput
    from streamproc_benchmarks.throughput_run import ThroughputPlan

    peers, consumers = chosen_peers(against, chosen_consumers(consumer))
    plan = ThroughputPlan(
        consumers=consumers,
        against=peers,
        records=records or (_RECORDS_FOR_A_JVM if "kcl" in peers else _RECORDS),
        rounds=rounds,
        shards=shards,
        seed=seed,
    )
    output, console = Output(out, json, judge=bars), new_console()
    settings = checked_settings(assignments)
    environment, found = run_loop(_measure(plan, limit, settings))
    print_throughput(found, console)
    report = make_report(
        "throughput", found, print_throughput, environment, seed=seed, settings=settings
    )
    output.conclude([report], console)


async def _measure(
    plan: ThroughputPlan, limit: float, settings: dict[str, Any]
) -> tuple[Environment, Throughput]:
    from streamproc_benchmarks.environment import read_environment
    from streamproc_benchmarks.pinning import choose_cores
    from streamproc_benchmarks.runs import open_benches
    from streamproc_benchmarks.throughput_run import measure_throughput

    cores = choose_cores()
    async with open_benches(plan.names, cores, plan.shards, limit, settings) as benches:
        version = await benches[plan.names[0]].redis_version()
        environment = read_environment(redis_server=version, pinning=cores.note)
        return environment, await measure_throughput(benches, plan, say)
