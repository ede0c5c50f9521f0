"""`streamproc leases`: who holds what, and how to free what is stuck."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streamproc.admin.group import Group, open_group
from streamproc.admin.liveness import live_leases, refuse_live
from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, YesOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config
from streamproc.errors import ConfigError, LeaseStoreError
from streamproc.leases.assignment import startable
from streamproc.leases.lease import Lease

__all__ = ["app"]

app = typer.Typer(help="Show and release leases.", no_args_is_help=True)


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as it is shown; `alive` is None unless it was watched."""

    shard: str
    owner: str | None
    next_owner: str | None
    counter: int
    checkpoint: str
    state: str
    alive: bool | None


@app.command()
def show(
    config: ConfigOption = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Watch for a lease duration, to tell who is alive."),
    ] = False,
    as_json: JsonOption = False,
    assignments: SetOption = None,
) -> None:
    """Show every lease of the group."""
    views = run_loop(_show(settings_of(config, assignments), live))
    if as_json:
        print_json(views)
        return
    table = Table("shard", "state", "owner", "counter", "checkpoint", box=None)
    for view in views:
        owner = view.owner or "-"
        if view.next_owner is not None:
            owner += f" -> {view.next_owner}"
        if view.alive is not None and view.owner is not None:
            owner += " (alive)" if view.alive else " (silent)"
        table.add_row(view.shard, view.state, owner, str(view.counter), view.checkpoint)
    Console().print(table)


@app.command()
def release(
    shards: Annotated[list[str] | None, typer.Argument(help="The shards.")] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", help="All leases of this worker.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also from live workers, who lose what they have in hand."),
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Free leases, so that any worker may take them at once; checkpoints stay as they are."""
    if bool(shards) == (worker is not None):
        raise ConfigError("name the shards to release, or --worker; not both")
    run_loop(_release(settings_of(config, assignments), shards or (), worker, force, yes))


async def _show(config: Config, live: bool) -> list[LeaseView]:
    async with open_group(config) as group:
        rows = await group.rows()
        alive = None
        if live:
            duration = config.leases.duration
            alive = await live_leases(group.leases, list(rows), duration, roster=group.roster)
            rows = await group.rows()
        return [
            LeaseView(
                shard=key,
                owner=None if row.is_finished else row.processor,
                next_owner=None if row.checkpoint_owner is None else row.owner,
                counter=row.counter,
                checkpoint=str(row.checkpoint),
                state=_state(row, rows),
                alive=None if alive is None else key in alive,
            )
            for key, row in sorted(rows.items())
        ]


def _state(row: Lease, rows: dict[str, Lease]) -> str:
    if row.is_finished:
        return "finished"
    if row.checkpoint_owner is not None:
        return "handing over"
    if row.owner is not None:
        return "held"
    return "free" if startable(row, rows) else "waiting for parents"


async def _release(
    config: Config, shards: Collection[str], worker: str | None, force: bool, yes: bool
) -> None:
    async with open_group(config) as group:
        chosen = _chosen(await group.rows(), shards, worker)
        if not force:
            duration = config.leases.duration
            live = await live_leases(group.leases, list(chosen), duration, roster=group.roster)
            refuse_live(live, "release its leases, or use --force")
            chosen = _chosen(await group.rows(), shards, worker)
        for key, row in chosen.items():
            typer.echo(f"{key}: owned by {row.processor}")
        if not yes:
            typer.echo("nothing was changed; add --yes to release them")
            return
        for row in chosen.values():
            await _free(group, row)
        typer.echo(f"released {len(chosen)} leases")


def _chosen(
    rows: dict[str, Lease], shards: Collection[str], worker: str | None
) -> dict[str, Lease]:
    for shard in shards:
        if shard not in rows:
            raise ConfigError(f"there is no lease of {shard}; `streamproc leases show` lists them")
    chosen = {
        key: row
        for key, row in rows.items()
        if row.processor is not None
        and not row.is_finished
        and (key in shards or (worker is not None and worker in (row.owner, row.checkpoint_owner)))
    }
    if not chosen:
        raise ConfigError(f"no lease is owned by {worker}" if worker else "they are free already")
    return chosen


async def _free(group: Group, row: Lease) -> None:
    free = msgspec.structs.replace(row, owner=None, checkpoint_owner=None, counter=row.counter + 1)
    if await group.leases.replace(row, free) != free:
        raise LeaseStoreError(f"{row.key}: its lease changed this moment; look again and repeat")
