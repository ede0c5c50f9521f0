"""`streamproc bench` without a subcommand: throughput and latency, shortly."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption
from streamproc_benchmarks.commands.latency import latency_plan
from streamproc_benchmarks.options import (
    ConsumerOption,
    LimitOption,
    OutOption,
    RateOption,
    RecordsOption,
    RoundsOption,
    SecondsOption,
    SeedOption,
    ShardsOption,
    WarmUpOption,
    checked_settings,
    chosen_consumers,
    say,
)

if TYPE_CHECKING:
    from streamproc_benchmarks.environment import Environment
    from streamproc_benchmarks.latency import Latency
    from streamproc_benchmarks.latency_run import LatencyPlan
    from streamproc_benchmarks.throughput import Throughput
    from streamproc_benchmarks.throughput_run import ThroughputPlan

__all__ = ["quick"]


def quick(
    context: typer.Context,
    records: RecordsOption = 50_000,
    rate: RateOption = None,
    seconds: SecondsOption = 5,
    warm_up: WarmUpOption = 1,
    rounds: RoundsOption = 3,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 120,
    consumer: ConsumerOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
) -> None:
    """Measure throughput and latency, shortly; the subcommands take their time, and judge."""
    if context.invoked_subcommand is not None:
        return
    from streamproc_benchmarks.latency import print_latency
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console
    from streamproc_benchmarks.throughput import print_throughput
    from streamproc_benchmarks.throughput_run import ThroughputPlan

    names = chosen_consumers(consumer)
    work = ThroughputPlan(consumers=names, records=records, rounds=rounds, shards=shards, seed=seed)
    wait = latency_plan(
        *(names, rate, seconds, warm_up, rounds, shards, seed, assignments),
        capacity_records=records,
        capacity_rounds=1,
    )
    # A short look shows the bars; it is too short to fail anybody by them.
    output, console = Output(out, None, judge=False), new_console()
    settings = checked_settings(assignments)
    environment, throughput, latency = run_loop(_measure(work, wait, limit, settings))
    print_throughput(throughput, console)
    print_latency(latency, console)
    given = functools.partial(make_report, seed=seed, settings=settings)
    output.conclude(
        [
            given("throughput", throughput, print_throughput, environment),
            given("latency", latency, print_latency, environment),
        ],
        console,
    )


async def _measure(
    work: ThroughputPlan, wait: LatencyPlan, limit: float, settings: dict[str, Any]
) -> tuple[Environment, Throughput, Latency]:
    from streamproc_benchmarks.environment import read_environment
    from streamproc_benchmarks.latency_run import measure_latency
    from streamproc_benchmarks.pinning import choose_cores
    from streamproc_benchmarks.runs import open_bench, open_benches
    from streamproc_benchmarks.throughput_run import measure_throughput

    cores = choose_cores()
    async with open_benches(work.names, cores, work.shards, limit, settings) as benches:
        version = await benches[work.names[0]].redis_version()
        environment = read_environment(redis_server=version, pinning=cores.note)
        throughput = await measure_throughput(benches, work, say)
    async with open_bench(cores, wait.streams, limit, settings) as bench:
        return environment, throughput, await measure_latency(bench, wait, say)
