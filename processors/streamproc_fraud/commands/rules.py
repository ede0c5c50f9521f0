"""`streamproc fraud rules`: check a rule set, explain it, try it on the past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streamproc import ConfigError
from streamproc_fraud.commands.extras import needs_extra

__all__ = ["app"]

app = typer.Typer(help="Check, explain and backtest rule sets.", no_args_is_help=True)

RulesFile = Annotated[Path, typer.Argument(help="A rule set, TOML.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Take constants, models and tracking from its fraud table."
    ),
]


@app.command()
def check(rules: RulesFile, config: ConfigOption = None) -> None:
    """Check a rule set as a worker would before it takes it; say its version."""
    force = _in_force(rules, config)
    shadows = sum(rule.shadow for rule in force.decider.rules)
    typer.echo(
        f"{rules}: {force.decider.version}, {len(force.decider.rules)} rules"
        f"{f', {shadows} of them shadow' if shadows else ''}, "
        f"{len(force.decider.features) - 1} features"
    )


@app.command()
def explain(
    rules: RulesFile,
    values: Annotated[
        list[str] | None,
        typer.Option("--with", "-w", help="A feature's value, such as amount=250; repeatable."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show what decides in which order; with values, what each rule says of them."""
    from streamproc_fraud.rules.explain import judge_values, rule_rows

    force = _in_force(rules, config)
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(
        title=f"{force.decider.version}, in the order of precedence", title_justify="left"
    )
    for column in ("stage", "rule", "then", "when", "looks at"):
        table.add_column(column, overflow="fold")
    for row in rule_rows(force.decider):
        table.add_row(*row)
    console.print(table)
    for name, held in force.decider.checked.lists.items():
        console.print(f"list {name}: {len(held)} entries, {held.expiring} of them expire")
    if not values:
        return
    judged = judge_values(force.decider, _assignments(values))
    for rule, hit in judged.rules.items():
        console.print(f"{'hits ' if hit else '  -  '} {rule}")
    if judged.score is not None:
        console.print(f"score {judged.score:.4f}")
        for term, part in judged.parts.items():
            console.print(f"      {part:+8.3f}  {term}")
    told = ", ".join(judged.verdict.reasons) or "nothing"
    console.print(f"decision: {judged.verdict.decision}; reasons: {told}")


@app.command()
def backtest(
    rules: RulesFile,
    recording: Annotated[
        Path,
        typer.Argument(
            help="Payments: parquet as of `simulate`, or CloudEvents a line (.jsonl[.gz])."
        ),
    ],
    before: Annotated[
        Path | None, typer.Option(help="A rule set to compare with, such as the one in force.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Judge payments from this time on, RFC 3339.")
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a rule set over recorded payments: hits, and precision and recall where labels exist.

    A payment counts as a fraud if the recording's labels say so in the end; features see a label
    only from the moment at which it came.
    """
    from streamproc_fraud.rules.backtest import backtest as run

    force = [_in_force(path, config) for path in (rules, *([before] if before else []))]
    since_us = _time_us(since) if since else 0
    events, frauds = _recorded(recording)
    results = run(events, force, _processor(config, None).features, frauds, since_us)
    if as_json:
        names = ["after", "before"]
        found = dict(zip(names, results, strict=False))
        typer.echo(msgspec.json.encode(found))
        return
    _print_backtest(results)


def _print_backtest(results: list[Any]) -> None:
    console = Console(width=None if Console().is_terminal else 120)
    after = results[0]
    console.print(
        f"{after.payments:,} payments, {after.known_frauds:,} known frauds"
        + (f"; {after.skipped:,} skipped: amount or currency unusable" if after.skipped else "")
    )
    for title, result in zip(("", "before: "), results, strict=False):
        table = Table(title=f"{title}{result.rule_set}", title_justify="left")
        for column in ("", "hits", "frauds", "precision", "recall"):
            table.add_column(column, justify="left" if not column else "right")
        for name, outcome in (*result.decisions.items(), *result.rules.items()):
            is_decision = name in result.decisions
            table.add_row(
                f"[bold]{name}[/]" if is_decision else f"  {name}",
                f"{outcome.hits:,}",
                f"{outcome.frauds:,}",
                "-" if outcome.precision is None else f"{outcome.precision:.3f}",
                "-" if outcome.recall is None else f"{outcome.recall:.3f}",
            )
        console.print(table)
        for name, count in result.undefined.items():
            console.print(f"{name}: {count:,} calculations without a result, such as x / 0")


def _recorded(recording: Path) -> tuple[Iterator[Any], set[str]]:
    from streamproc_fraud.rules.backtest import read_recording

    if recording.suffix != ".parquet":
        from streamproc_fraud.events import FraudLabelConfirmed, FraudLabelRetracted

        frauds: set[str] = set()
        for _, event in read_recording(recording):
            if isinstance(event, FraudLabelConfirmed):
                frauds.add(event.payment_id)
            elif isinstance(event, FraudLabelRetracted):
                frauds.discard(event.payment_id)
        return read_recording(recording), frauds
    with needs_extra("fraud"):
        from streamproc_fraud.world.events import world_events
        from streamproc_fraud.world.parquet import read_parquet
        from streamproc_fraud.world.simulator import SIMULATION_START
    transactions = read_parquet(recording)
    start_us = round(SIMULATION_START.timestamp()) * 1_000_000
    frauds = {f"tx-{row}" for row in transactions.fraud.nonzero()[0].tolist()}
    events = ((start_us + t * 1_000_000, event) for t, _, event in world_events(transactions))
    return events, frauds


def _in_force(rules: Path, config: Path | None) -> Any:
    return _processor(config, rules).live.in_force


def _processor(config: Path | None, rules: Path | None) -> Any:
    """Return a processor with a file's settings and the given rules, never started."""
    import tomllib

    from streamproc_fraud.processor import FraudProcessor

    settings: dict[str, Any] = {}
    if config is not None:
        try:
            with config.open("rb") as file:
                tables = tomllib.load(file).get("processors", {})
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{config} cannot be read: {error}") from None
        settings = {k: v for k, v in tables.get("fraud", {}).items() if k not in ("rules", "use")}
    if rules is not None:
        settings["rules"] = str(rules)
    try:
        return FraudProcessor(**settings)
    except TypeError as error:
        raise ConfigError(f"{config}: processors.fraud: {error}") from None


def _assignments(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--with {text}: write feature=value, such as amount=250")
        found[name.strip()] = value.strip()
    return found


def _time_us(text: str) -> int:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--since {text}: {error}") from None
    if moment.tzinfo is None:
        raise ConfigError(f"--since {text}: add an offset, such as Z")
    return round(moment.timestamp() * 1e6)
