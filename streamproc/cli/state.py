"""`streamproc state`: look at what processors have stored, and write it to a file."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, settings_of
from streamproc.cli.output import print_json
from streamproc.cli.state_files import Format, Row, open_writer
from streamproc.config import Config
from streamproc.errors import StreamprocError
from streamproc.state_reader import StateReader, StoredCounters, StoredState

__all__ = ["app"]

app = typer.Typer(help="Look at stored states and counters.", no_args_is_help=True)

ProcessorArgument = Annotated[str, typer.Argument(help="The processor's name.")]
MatchOption = Annotated[
    str, typer.Option("--match", help="Only keys like this glob; parts are joined by |.")
]


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is printed of one key."""

    key: tuple[str, ...]
    version: int | None = None
    schema: int = 1
    state: Any = None
    counters: Any = None


@app.command()
def get(
    processor: ProcessorArgument,
    key: Annotated[list[str], typer.Argument(help="The key, or each part of it.")],
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Print the state and the counters of one key as JSON."""
    print_json(run_loop(_get(settings_of(config, assignments), processor, key)))


@app.command()
def scan(
    processor: ProcessorArgument,
    match: MatchOption = "*",
    limit: Annotated[int, typer.Option("--limit", help="Most keys shown.", min=1)] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """List keys with their states and counters, in no order."""
    found, more = run_loop(_scan(settings_of(config, assignments), processor, match, limit))
    if as_json:
        print_json(found)
    else:
        table = Table("key", "state or counters", box=None)
        for each in found:
            shown = each.counters if each.state is None else each.state
            table.add_row("|".join(each.key), msgspec.json.encode(shown).decode())
        Console().print(table)
    if more:
        typer.echo(f"there are more than {limit}; raise --limit, or use export", err=True)


@app.command()
def export(
    processor: ProcessorArgument,
    out: Annotated[Path, typer.Option("--out", help="The file; - is standard output.")],
    file_format: Annotated[
        Format, typer.Option("--format", help="jsonl, csv, or parquet (needs pyarrow).")
    ] = Format.jsonl,
    match: MatchOption = "*",
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Write all states and counters of a processor to a file; it appears when it is complete."""
    settings = settings_of(config, assignments)
    count = run_loop(_export(settings, processor, match, file_format, out))
    print(f"wrote {count} keys to {out}", file=sys.stderr)


async def _get(config: Config, processor: str, parts: list[str]) -> Found:
    key = parts[0] if len(parts) == 1 else tuple(parts)
    async with _reader(config) as reader:
        state = await reader.get(processor, key)
        counters = await reader.get_counters(processor, key)
    if state is None and counters is None:
        raise StreamprocError(
            f"group {config.group} holds nothing of {processor} under {' '.join(parts)}; "
            f"`streamproc state scan {processor}` lists its keys"
        )
    return Found(
        key=tuple(parts),
        version=None if state is None else state.version,
        schema=1 if state is None else state.schema,
        state=None if state is None else state.value,
        counters=None if counters is None else counters.values,
    )


async def _scan(config: Config, processor: str, match: str, limit: int) -> tuple[list[Found], bool]:
    found: list[Found] = []
    async with _reader(config) as reader:
        async for each in _everything(reader, processor, match):
            if len(found) == limit:
                return found, True
            if isinstance(each, StoredState):
                found.append(Found(each.key, each.version, each.schema, state=each.value))
            else:
                found.append(Found(each.key, each.version, counters=each.values))
    return found, False


async def _export(
    config: Config, processor: str, match: str, file_format: Format, out: Path
) -> int:
    count = 0
    with open_writer(file_format, out) as write:
        async with _reader(config) as reader:
            async for each in _everything(reader, processor, match):
                write(_row(each))
                count += 1
    return count


async def _everything(
    reader: StateReader, processor: str, match: str
) -> AsyncIterator[StoredState | StoredCounters]:
    async for state in reader.scan(processor, match):
        yield state
    async for counters in reader.scan_counters(processor, match):
        yield counters


def _row(stored: StoredState | StoredCounters) -> Row:
    kind: Literal["state", "counters"]
    if isinstance(stored, StoredState):
        kind, schema, data = "state", stored.schema, stored.data
    else:
        kind, schema, data = "counters", 1, msgspec.json.encode(stored.values)
    return Row(stored.processor, kind, list(stored.key), stored.version, schema, msgspec.Raw(data))


def _reader(config: Config) -> StateReader:
    return StateReader(
        config.redis.url,
        config.group,
        timeout=config.redis.timeout,
        cluster=config.redis.cluster,
    )
