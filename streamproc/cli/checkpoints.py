"""`streamproc checkpoints`: where the group is in its stream, and how to put it elsewhere."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streamproc.admin.group import Group, open_group
from streamproc.admin.liveness import live_leases, refuse_live
from streamproc.admin.moves import Estimate, Move, apply_move, forget_group, probe, read_position
from streamproc.admin.plans import (
    Exported,
    export,
    plan_all,
    plan_import,
    plan_shards,
    present_place,
)
from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, YesOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config
from streamproc.errors import ConfigError, LeaseStoreError, StreamError
from streamproc.kinesis.errors import KinesisError
from streamproc.position import Position

__all__ = ["app"]

app = typer.Typer(help="Show and move the group's place in the stream.", no_args_is_help=True)

AllOption = Annotated[
    bool, typer.Option("--all", help="The whole group, in the order of its reshards.")
]
MarksOption = Annotated[
    bool,
    typer.Option(
        "--forget-marks",
        help="Also drop the group's dedupe marks: events read again take effect again.",
    ),
]
ShardsArgument = Annotated[list[str] | None, typer.Argument(help="The shards.")]


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's place as it is shown.

    Attributes:
        shard: the shard.
        checkpoint: the lease's, which other tools read.
        positions: Redis's, of one partition after the other, which are the truth.
        behind_seconds: how long the next record has been waiting; None unless asked for.
        owner: who holds the lease.
    """

    shard: str
    checkpoint: str
    positions: list[str | None]
    behind_seconds: float | None
    owner: str | None


@app.command()
def show(
    config: ConfigOption = None,
    behind: Annotated[
        bool, typer.Option("--behind", help="Read a little of each shard, to tell its lag.")
    ] = False,
    as_json: JsonOption = False,
    assignments: SetOption = None,
) -> None:
    """Show each shard's checkpoint and its position in Redis."""
    views = run_loop(_show(settings_of(config, assignments), behind))
    if as_json:
        print_json(views)
        return
    columns = ["shard", "checkpoint", "position in Redis", "owner"]
    table = Table(*columns, *(["behind"] if behind else []), box=None)
    for view in views:
        known = [position or "-" for position in view.positions]
        cells = [view.shard, view.checkpoint, "\n".join(known), view.owner or "-"]
        if behind:
            cells.append("-" if view.behind_seconds is None else _period(view.behind_seconds))
        table.add_row(*cells)
    Console().print(table)


@app.command("set")
def set_(
    position: Annotated[
        str,
        typer.Argument(help="TRIM_HORIZON, LATEST, an ISO 8601 time, or a sequence number."),
    ],
    shards: ShardsArgument = None,
    every: AllOption = False,
    forget_marks: MarksOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Go to another position: back, to read records again, or ahead, to pass them over."""
    target = read_position(position)
    _either(shards, every)
    if every and not target.is_start:
        raise ConfigError("a sequence number is of one shard; with --all give a time")

    async def plan(group: Group) -> list[Move]:
        return await (
            plan_all(group, target) if every else plan_shards(group, shards or (), target)
        )

    run_loop(_move(settings_of(config, assignments), plan, forget_marks, yes))


@app.command()
def reset(
    shards: ShardsArgument = None,
    every: AllOption = False,
    forget_marks: MarksOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Begin anew at stream.initial_position; with --all as a group that never ran.

    --all is also what to do once a stream was deleted and created again under its name.
    """
    _either(shards, every)
    settings = settings_of(config, assignments)
    if every:
        run_loop(_reset(settings, forget_marks, yes))
        return
    target = read_position(settings.stream.initial_position)
    run_loop(
        _move(settings, lambda group: plan_shards(group, shards or (), target), forget_marks, yes)
    )


@app.command("export")
def export_(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. [default: print it]")
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Write every shard's place to a file that `import` reads."""
    exported = run_loop(_export(settings_of(config, assignments)))
    if output is None:
        print_json(exported)
        return
    try:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(exported), indent=2))
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error}") from None
    typer.echo(f"wrote the places of {len(exported.shards)} shards to {output}")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that `export` wrote.")],
    forget_marks: MarksOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Go to the places that a file holds; shards that it does not name stay where they are."""
    try:
        exported = msgspec.json.decode(path.read_bytes(), type=Exported)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is not what `checkpoints export` writes: {error}") from None
    run_loop(
        _move(
            settings_of(config, assignments),
            lambda group: plan_import(group, exported),
            forget_marks,
            yes,
        )
    )


def _either(shards: Sequence[str] | None, every: bool) -> None:
    if bool(shards) == every:
        raise ConfigError("name the shards to move, or --all; not both")


async def _show(config: Config, behind: bool) -> list[CheckpointView]:
    async with open_group(config) as group:
        rows, positions = await group.rows(), await group.positions()
        return [
            CheckpointView(
                shard=key,
                checkpoint=str(row.checkpoint),
                positions=[
                    None if place is None or place.position is None else str(place.position)
                    for place in positions.get(key, (None,) * len(group.places))
                ],
                behind_seconds=(
                    await _behind(group, key, present_place(row, positions.get(key)))
                    if behind and not row.is_finished
                    else None
                ),
                owner=None if row.is_finished else row.processor,
            )
            for key, row in sorted(rows.items())
        ]


async def _behind(group: Group, shard: str, place: Position) -> float | None:
    try:
        found = await probe(group, shard, place)
    except (KinesisError, StreamError):
        return None
    if not found.records:
        return 0.0
    return max(0.0, time.time() - found.records[0].approximate_arrival_timestamp)


async def _export(config: Config) -> Exported:
    async with open_group(config) as group:
        return await export(group)


async def _move(
    config: Config,
    plan: Callable[[Group], Awaitable[list[Move]]],
    forget_marks: bool,
    yes: bool,
) -> None:
    async with open_group(config) as group:
        moves = await plan(group)
        keys = list(await group.rows()) if forget_marks else [move.shard for move in moves]
        await _refuse_live(group, keys)
        _print_plan(moves, forget_marks)
        if not yes:
            typer.echo("nothing was changed; add --yes to do it")
            return
        if forget_marks:
            await _forget_marks(group)
        for move in moves:
            if not await apply_move(group, move):
                raise LeaseStoreError(
                    f"{move.shard}: a worker took its lease this moment; stop the workers and "
                    "repeat the command, which begins where it stopped"
                )
        typer.echo(f"moved {len(moves)} shards")


async def _reset(config: Config, forget_marks: bool, yes: bool) -> None:
    async with open_group(config) as group:
        rows = await group.rows()
        await _refuse_live(group, list(rows))
        typer.echo(
            f"deletes {len(rows)} leases and the group's positions in stream {group.stream}; the "
            f"next worker begins at {config.stream.initial_position}. States stay as they are."
        )
        typer.echo(_about_marks(forget_marks))
        if not yes:
            typer.echo("nothing was changed; add --yes to do it")
            return
        if forget_marks:
            await _forget_marks(group)
        if not await forget_group(group, (await group.rows()).values()):
            raise LeaseStoreError("a lease changed this moment; stop the workers and repeat it")
        typer.echo(f"group {config.group} begins anew")


async def _refuse_live(group: Group, keys: Sequence[str]) -> None:
    duration = group.config.leases.duration
    live = await live_leases(group.leases, keys, duration, roster=group.roster, any_is_enough=True)
    refuse_live(live, "move the group's place")


async def _forget_marks(group: Group) -> None:
    count = sum([await places.forget_marks() for places in group.places])
    typer.echo(f"dropped {count} dedupe marks")


def _print_plan(moves: Sequence[Move], forget_marks: bool) -> None:
    table = Table("shard", "from", "to", "which", box=None)
    for move in moves:
        before = "-" if move.before is None else _place(move.before)
        table.add_row(move.shard, before, _place(move.target), _effect(move))
    Console().print(table)
    if any(move.estimate is None or not move.estimate.forward for move in moves):
        typer.echo(_about_marks(forget_marks))
    if any(move.estimate is not None and move.estimate.forward for move in moves):
        typer.echo("Records that are passed over are never processed by this group.")


def _effect(move: Move) -> str:
    if move.creates:
        return "begins there"
    estimate = move.estimate
    if estimate is None:
        return "ends there" if move.target.is_end else "cannot be told: the shard is not readable"
    if not estimate.records:
        return "changes nothing to be read"
    return f"{'passes over' if estimate.forward else 'repeats'} {_amount(estimate)}"


def _amount(estimate: Estimate) -> str:
    count = f"{estimate.records:,} records"
    text = count if estimate.exact else f"about {count}"
    return text if estimate.seconds is None else f"{text} of {_period(estimate.seconds)}"


def _about_marks(forget: bool) -> str:
    if forget:
        return (
            "The group's dedupe marks are dropped, of all shards: events that are read again take "
            "effect again, on top of the present state, and a producer's retry of an older event "
            "does so, too."
        )
    return (
        "Dedupe marks stay: events that are read again are dropped as duplicates, as long as their "
        "marks last (dedupe.ttl). For their effects to happen again, add --forget-marks."
    )


def _place(position: Position) -> str:
    if position.timestamp is None:
        return str(position)
    return datetime.fromtimestamp(position.timestamp, UTC).isoformat(timespec="seconds")


def _period(seconds: float) -> str:
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
