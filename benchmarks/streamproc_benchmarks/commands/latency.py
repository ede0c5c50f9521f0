"""`streamproc bench latency`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption, overrides_of
from streamproc.errors import ConfigError
from streamproc_benchmarks.options import (
    BarsOption,
    ConsumerOption,
    JsonOption,
    LimitOption,
    OutOption,
    RateOption,
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
    from streamproc_benchmarks.consumer import ConsumerName
    from streamproc_benchmarks.environment import Environment
    from streamproc_benchmarks.latency import Latency
    from streamproc_benchmarks.latency_run import LatencyPlan

__all__ = ["latency", "latency_plan"]


def latency(
    rate: RateOption = None,
    seconds: SecondsOption = 10,
    warm_up: WarmUpOption = 2,
    rounds: RoundsOption = 3,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 300,
    consumer: ConsumerOption = None,
    out: OutOption = None,
    json: JsonOption = None,
    bars: BarsOption = True,
    assignments: SetOption = None,
) -> None:
    """Offer records at a fixed rate: milliseconds from when one is due to its commit."""
    from streamproc_benchmarks.latency import print_latency
    from streamproc_benchmarks.output import Output
    from streamproc_benchmarks.reportfile import make_report
    from streamproc_benchmarks.tables import new_console

    names = chosen_consumers(consumer)
    plan = latency_plan(names, rate, seconds, warm_up, rounds, shards, seed, assignments)
    output, console = Output(out, json, judge=bars), new_console()
    settings = checked_settings(assignments)
    environment, found = run_loop(_measure(plan, limit, settings))
    print_latency(found, console)
    report = make_report("latency", found, print_latency, environment, seed=seed, settings=settings)
    output.conclude([report], console)


def latency_plan(
    consumers: list[ConsumerName],
    rate: float | None,
    seconds: float,
    warm_up: float,
    rounds: int,
    shards: int,
    seed: int,
    assignments: list[str] | None,
    *,
    capacity_records: int = 100_000,
    capacity_rounds: int = 3,
) -> LatencyPlan:
    """Return the plan.

    Raises:
        ConfigError: all of it would be warm-up.
    """
    from streamproc.settings import load_config
    from streamproc_benchmarks.latency_run import LatencyPlan

    if warm_up >= seconds:
        raise ConfigError(f"--warm-up {warm_up:g}: must be less than --seconds {seconds:g}")
    return LatencyPlan(
        consumers=consumers,
        rate=rate,
        seconds=seconds,
        warm_up=warm_up,
        rounds=rounds,
        shards=shards,
        seed=seed,
        capacity_records=capacity_records,
        capacity_rounds=capacity_rounds,
        poll_interval=load_config(None, {}, overrides_of(assignments)).read.poll_interval,
    )


async def _measure(
    plan: LatencyPlan, limit: float, settings: dict[str, Any]
) -> tuple[Environment, Latency]:
    from streamproc_benchmarks.environment import read_environment
    from streamproc_benchmarks.latency_run import measure_latency
    from streamproc_benchmarks.pinning import choose_cores
    from streamproc_benchmarks.runs import open_bench

    cores = choose_cores()
    async with open_bench(cores, plan.streams, limit, settings) as bench:
        environment = read_environment(redis_server=await bench.redis_version(), pinning=cores.note)
        return environment, await measure_latency(bench, plan, say)
