"""`streamproc bench`: measure this machine, against the usual way to read Kinesis.

What runs the benchmark is imported when it is asked for: every `streamproc` command loads this.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.loop import run_loop
from streamproc.cli.options import SetOption, overrides_of
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc_benchmarks.consumer import ConsumerName
    from streamproc_benchmarks.results import Report
    from streamproc_benchmarks.scenarios import LatencyPlan, ThroughputPlan

__all__ = ["app"]

app = typer.Typer(
    name="bench",
    help="Measure throughput and latency on this machine, beside a plain aiobotocore loop.",
    invoke_without_command=True,
)

ConsumerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--consumer", help="plain, typed, noop, fraud or inventory; repeatable. [default: all]"
    ),
]
RoundsOption = Annotated[int, typer.Option(help="Rounds; consumers take turns.", min=1)]
ShardsOption = Annotated[int, typer.Option(help="Shards of each stream.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Seed of the events.")]
LimitOption = Annotated[float, typer.Option(help="Seconds that one run may take.", min=0.1)]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write environment and each round's values here.")
]
RecordsOption = Annotated[int, typer.Option(help="Records to read in each run.", min=1)]
RateOption = Annotated[float, typer.Option(help="Records a second to offer.", min=1)]
SecondsOption = Annotated[float, typer.Option(help="Seconds to offer them for.", min=0.1)]
WarmUpOption = Annotated[
    float, typer.Option(help="Seconds at the start that percentiles leave out.", min=0)
]


@app.callback()
def both(
    context: typer.Context,
    records: RecordsOption = 50_000,
    rate: RateOption = 2_000,
    seconds: SecondsOption = 5,
    warm_up: WarmUpOption = 1,
    rounds: RoundsOption = 3,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 120,
    consumer: ConsumerOption = None,
    json: JsonOption = None,
    assignments: SetOption = None,
) -> None:
    """Measure throughput and latency, shortly; the subcommands take their time."""
    if context.invoked_subcommand is not None:
        return
    names = _consumers(consumer)
    _run(
        _throughput_plan(names, records, rounds, shards, seed),
        _latency_plan(names, rate, seconds, warm_up, rounds, shards, seed),
        limit,
        json,
        assignments,
    )


@app.command()
def throughput(
    records: RecordsOption = 200_000,
    rounds: RoundsOption = 5,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 300,
    consumer: ConsumerOption = None,
    json: JsonOption = None,
    assignments: SetOption = None,
) -> None:
    """Read a stream that was filled before: records a second, and CPU time a record."""
    plan = _throughput_plan(_consumers(consumer), records, rounds, shards, seed)
    _run(plan, None, limit, json, assignments)


@app.command()
def latency(
    rate: RateOption = 2_000,
    seconds: SecondsOption = 20,
    warm_up: WarmUpOption = 2,
    rounds: RoundsOption = 3,
    shards: ShardsOption = 4,
    seed: SeedOption = 1,
    limit: LimitOption = 300,
    consumer: ConsumerOption = None,
    json: JsonOption = None,
    assignments: SetOption = None,
) -> None:
    """Offer records at a fixed rate: milliseconds from intended send to commit."""
    plan = _latency_plan(_consumers(consumer), rate, seconds, warm_up, rounds, shards, seed)
    _run(None, plan, limit, json, assignments)


@app.command()
def codec(
    rounds: RoundsOption = 30,
    seed: SeedOption = 1,
) -> None:
    """Measure single steps: parsing answers, decoding events, digests of ids."""
    from rich.console import Console

    from streamproc_benchmarks.codec import measure_steps
    from streamproc_benchmarks.pinning import choose_cores, pin
    from streamproc_benchmarks.report import print_steps

    cores = choose_cores()
    pin(cores.consumer)
    print_steps(measure_steps(seed, rounds), Console())


@app.command()
def windows(
    rounds: RoundsOption = 10,
    seed: SeedOption = 1,
) -> None:
    """Measure sliding windows: twelve fraud features a payment, and their parts."""
    from rich.console import Console

    from streamproc.cli.loop import calm_collector
    from streamproc_benchmarks.pinning import choose_cores, pin
    from streamproc_benchmarks.report import print_steps
    from streamproc_benchmarks.windows import measure_windows

    cores = choose_cores()
    pin(cores.consumer)
    calm_collector()
    print_steps(measure_windows(seed, rounds), Console())


@app.command()
def idle(
    shards: Annotated[int, typer.Option(help="Empty shards of the stream.", min=1)] = 1_000,
    settle: Annotated[float, typer.Option(help="Seconds before the look.", min=0)] = 15,
    seconds: Annotated[float, typer.Option(help="Seconds to look for.", min=1)] = 30,
    json: JsonOption = None,
    assignments: SetOption = None,
) -> None:
    """Measure a worker whose shards are all quiet: CPU, memory, polls."""
    import msgspec
    from rich.console import Console

    from streamproc_benchmarks.idle import measure_idle, print_idle

    cost = run_loop(measure_idle(shards, settle, seconds, overrides_of(assignments)))
    print_idle(cost, Console())
    if json is not None:
        json.write_bytes(msgspec.json.encode(cost))


@app.command()
def dedupe(
    ids: Annotated[int, typer.Option(help="Event ids to mark in each layout.", min=1)] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Ids in one batch.", min=1)] = 1_000,
    json: JsonOption = None,
) -> None:
    """Measure dedupe marks in Redis: memory and round trips, for both layouts."""
    import msgspec
    from rich.console import Console

    from streamproc_benchmarks.dedupe import measure_dedupe, print_dedupe

    server, costs = run_loop(measure_dedupe(ids, batch))
    print_dedupe(server, costs, Console())
    if json is not None:
        json.write_bytes(msgspec.json.encode({"server": server, "costs": costs}))


def _consumers(given: list[str] | None) -> list[ConsumerName]:
    from streamproc_benchmarks.consumer import CONSUMERS

    for name in given or ():
        if name not in CONSUMERS:
            raise ConfigError(f"--consumer {name}: there are {', '.join(CONSUMERS)}")
    return [name for name in CONSUMERS if not given or name in given]


def _throughput_plan(
    consumers: list[ConsumerName], records: int, rounds: int, shards: int, seed: int
) -> ThroughputPlan:
    from streamproc_benchmarks.scenarios import ThroughputPlan

    return ThroughputPlan(
        consumers=consumers, records=records, rounds=rounds, shards=shards, seed=seed
    )


def _latency_plan(
    consumers: list[ConsumerName],
    rate: float,
    seconds: float,
    warm_up: float,
    rounds: int,
    shards: int,
    seed: int,
) -> LatencyPlan:
    from streamproc_benchmarks.scenarios import LatencyPlan

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
    )


def _run(
    throughput_plan: ThroughputPlan | None,
    latency_plan: LatencyPlan | None,
    limit: float,
    json: Path | None,
    assignments: list[str] | None,
) -> None:
    from rich.console import Console

    from streamproc_benchmarks.report import print_report, write_json

    console = Console()
    settings = overrides_of(assignments)
    report = run_loop(_measure(throughput_plan, latency_plan, limit, settings))
    print_report(report, console)
    if json is not None:
        write_json(report, json)
        console.print(f"written to {json}")


async def _measure(
    throughput_plan: ThroughputPlan | None,
    latency_plan: LatencyPlan | None,
    limit: float,
    settings: dict[str, Any],
) -> Report:
    from streamproc_benchmarks.environment import read_environment
    from streamproc_benchmarks.pinning import choose_cores
    from streamproc_benchmarks.results import Report
    from streamproc_benchmarks.runs import open_bench
    from streamproc_benchmarks.scenarios import measure_latency, measure_throughput

    def say(text: str) -> None:
        typer.echo(text, err=True)

    plans = [plan for plan in (throughput_plan, latency_plan) if plan is not None]
    streams = {name: shards for plan in plans for name, shards in plan.streams.items()}
    cores = choose_cores()
    async with open_bench(cores, streams, limit, settings) as bench:
        environment = read_environment(redis_server=await bench.redis_version(), pinning=cores.note)
        report = Report(
            command=["streamproc", *sys.argv[1:]],
            seed=plans[0].seed,
            settings=settings,
            environment=environment,
        )
        if throughput_plan is not None:
            report.throughput = await measure_throughput(bench, throughput_plan, say)
        if latency_plan is not None:
            report.latency = await measure_latency(bench, latency_plan, say)
        return report
