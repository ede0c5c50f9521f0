"""`streamproc shards`: the stream's shards, their leases, and who descends from whom."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from streamproc.admin.group import open_group
from streamproc.admin.lineage import Branch, ShardView, shard_views, trunks
from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config

__all__ = ["shards"]

_COLOURS = {
    "held": "green",
    "handing over": "cyan",
    "free": "yellow",
    "no lease": "red",
    "trimmed": "red",
}


def shards(
    config: ConfigOption = None,
    tree: Annotated[bool, typer.Option("--tree", help="Draw who descends from whom.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Finished shards, too; a tree always has them.")
    ] = False,
    as_json: JsonOption = False,
    assignments: SetOption = None,
) -> None:
    """Show the stream's shards: state in this group, owner, checkpoint, share of the hash keys."""
    views = run_loop(_look(settings_of(config, assignments)))
    if as_json:
        print_json(views)
        return
    console = Console()
    if tree:
        for branch in trunks(views):
            console.print(_drawn(branch, None))
        return
    table = Table("shard", "stream", "state", "owner", "share", "checkpoint", box=None)
    for view in views:
        if every or view.state != "finished":
            table.add_row(
                view.shard_id,
                _openness(view),
                Text(view.state, _COLOURS.get(view.state, "dim")),
                _owner(view),
                _share(view),
                view.checkpoint or "-",
            )
    console.print(table)
    hidden = 0 if every else sum(view.state == "finished" for view in views)
    if hidden:
        console.print(f"{hidden} finished shards are not shown; --all shows them", style="dim")


async def _look(config: Config) -> list[ShardView]:
    async with open_group(config) as group:
        return shard_views(await group.kinesis.list_shards(), await group.rows())


def _drawn(branch: Branch, tree: Tree | None) -> Tree:
    node = Tree(_label(branch)) if tree is None else tree.add(_label(branch))
    for below in branch.branches:
        _drawn(below, node)
    return node


def _label(branch: Branch) -> Text:
    view = branch.view
    if branch.elsewhere:
        return Text(f"{view.shard_id}  drawn at {view.parents[0]}", style="dim")
    label = Text(f"{view.shard_id}  ")
    label.append(view.state, _COLOURS.get(view.state, "dim"))
    label.append(f"  {_share(view)}  {_openness(view)}")
    if view.owner is not None:
        label.append(f"  {_owner(view)}", "bold")
    if len(view.parents) > 1:
        label.append(f"  merged from {' and '.join(view.parents)}", "dim")
    return label


def _owner(view: ShardView) -> str:
    if view.owner is None:
        return "-"
    return view.owner if view.next_owner is None else f"{view.owner} -> {view.next_owner}"


def _openness(view: ShardView) -> str:
    return {True: "open", False: "closed", None: "not listed"}[view.is_open]


def _share(view: ShardView) -> str:
    return "-" if view.share is None else f"{view.share:.2%}"
